import type { DeviceMemory } from '@virtlab/guest-memory';
import { type DescriptorChain, POSITION_TAKEN } from './contract.ts';
import { RingChain } from './device-chain.ts';

/**
 * The chains of a device queue: those in flight, each under an id that no two may have, and those to fill next. The one
 * given back last is taken first, so that a queue touches as many as it has in flight, not one for each id.
 */
export class ChainPool {
  /** Chains popped and not pushed. */
  inFlightCount = 0;
  readonly #memory: DeviceMemory;
  readonly #segmentCountMax: number;
  readonly #chains: RingChain[] = [];
  /** A stack: `#freeCount` chains that are not taken. What lies above is stale. */
  readonly #free: RingChain[] = [];
  #freeCount = 0;
  /** 1 for each id that the device has: in flight, or held back. */
  readonly #taken: Uint8Array;
  /** `RingChain.sequence` of the next. */
  #sequence = 0;

  /** Ids are below `size`. */
  constructor(memory: DeviceMemory, size: number, segmentCountMax: number) {
    this.#memory = memory;
    this.#segmentCountMax = segmentCountMax;
    this.#taken = new Uint8Array(size);
  }

  isTaken(id: number): boolean {
    return this.#taken[id] !== 0;
  }

  /** The chain to fill next, empty; it stays in the pool until it is taken. */
  peek(): RingChain {
    return this.#freeCount === 0 ? this.#grow() : this.#free[this.#freeCount - 1]!;
  }

  /** Takes the chain that `peek` gave. `position` and `slotCount` are the caller's to set. */
  take(chain: RingChain, id: number): void {
    this.#freeCount--;
    chain.head = id;
    chain.sequence = this.#sequence;
    this.#sequence = (this.#sequence + 1) | 0;
    chain.inFlight = true;
    this.#taken[id] = 1;
    this.inFlightCount++;
  }

  /** The chain as one of this pool in flight; throws `RangeError` for any other. */
  own(chain: DescriptorChain): RingChain {
    const own = chain as RingChain;
    if (!own.inFlight || own.pool !== this) notInFlight(chain);
    return own;
  }

  /** Ends the mappings; the id stays taken until `free`. */
  hold(chain: RingChain): void {
    chain.unmap();
    chain.inFlight = false;
    chain.isHeld = true;
    this.inFlightCount--;
  }

  free(chain: RingChain): void {
    chain.isHeld = false;
    this.#taken[chain.head] = 0;
    this.#free[this.#freeCount++] = chain;
  }

  /** Takes the chain back that was taken last: what `hold` and `free` do, and it was never there. */
  undo(chain: RingChain): void {
    this.hold(chain);
    this.free(chain);
    this.#sequence = chain.sequence;
  }

  /** Ends the mappings of all chains in flight and forgets every chain. */
  release(): void {
    for (const chain of this.#chains) {
      if (chain.inFlight) chain.unmap();
      chain.inFlight = false;
    }
    this.#chains.length = 0;
    this.#free.length = 0;
    this.#freeCount = 0;
    this.inFlightCount = 0;
  }

  /** Ids in flight, ascending. */
  inFlight(): number[] {
    const ids = this.#chains.filter((chain) => chain.inFlight).map((chain) => chain.head);
    return ids.toSorted((a, b) => a - b);
  }

  /** What is in flight, oldest first. */
  unfinished(): RingChain[] {
    return this.#chains.filter(({ inFlight }) => inFlight).toSorted((a, b) => (a.sequence - b.sequence) | 0);
  }

  /** Removes from the end of `chains`, which `unfinished` gave, those behind which nothing else was taken: newest first. */
  takeNewest(chains: RingChain[]): RingChain[] {
    const newest: RingChain[] = [];
    for (let sequence = this.#sequence; ;) {
      const chain = chains.at(-1);
      sequence = (sequence - 1) | 0;
      if (chain === undefined || chain.sequence !== sequence || chain.position === POSITION_TAKEN)
        return newest;
      newest.push(chain);
      chains.pop();
    }
  }

  #grow(): RingChain {
    const chain = new RingChain(this, this.#memory, this.#segmentCountMax);
    this.#chains.push(chain);
    this.#free[this.#freeCount++] = chain;
    return chain;
  }
}

function notInFlight(chain: DescriptorChain): never {
  throw new RangeError(`Chain ${chain.head} is not in flight here`);
}
