import { EVTCHN_FIFO_MAX_QUEUES } from '@virtlab/abi/event-channel';
import type { MemoryRegion } from '@virtlab/guest-memory';
import { HEAD_INDEX, LINK, LINKED, MASKED, PENDING, READY_INDEX } from './fifo-words.ts';

export interface FifoConsumerOptions {
  readonly region: MemoryRegion;
  /** The vCPU's control block, as an index of 32-bit words. */
  readonly control: number;
  /** Port 0 of the event array, as an index of 32-bit words: the owner's pages follow one another. */
  readonly array: number;
  readonly portCount: number;
  /** Answers whether the port had somebody to tell; must not throw. */
  readonly run: (port: number) => boolean;
}

/**
 * The receiving half of the FIFO ABI for one vCPU: takes events from its queues, always from the one of highest priority
 * that has any. A round takes no port twice: an event that was queued again stops its queue until the next round, for it and
 * everything behind it was posted after the round began.
 */
export class FifoConsumer {
  readonly #words: Int32Array;
  readonly #control: number;
  readonly #array: number;
  readonly #portCount: number;
  readonly #run: (port: number) => boolean;
  /** By priority: the next port, if the last one had a link; then the control block is not asked. */
  readonly #heads = new Uint32Array(EVTCHN_FIFO_MAX_QUEUES);
  /** By port: the round in which it was taken last. */
  #takenIn = new Uint32Array(64);
  #round = 0;
  /** Queues that have something to take, by bit. */
  #ready = 0;
  /** Queues that this round does not go on with. */
  #stopped = 0;

  constructor({ region, control, array, portCount, run }: FifoConsumerOptions) {
    this.#words = region.i32;
    this.#control = control;
    this.#array = array;
    this.#portCount = portCount;
    this.#run = run;
  }

  /** One round, the upcall being lowered; answers how many ports were told. */
  round(): number {
    const round = this.#beginRound();
    let ran = 0;
    while (this.#ready !== 0) {
      const priority = 31 - Math.clz32(this.#ready & -this.#ready);
      if (this.#take(priority, round)) ran += 1;
      this.#lookForMore();
    }
    return ran;
  }

  /** Whether a round stopped before its queues were empty: another one is due. */
  hasLeft(): boolean {
    return this.#stopped !== 0;
  }

  #beginRound(): number {
    this.#ready |= this.#stopped;
    this.#stopped = 0;
    this.#lookForMore();
    this.#round = (this.#round + 1) >>> 0;
    return this.#round;
  }

  #lookForMore(): void {
    const ready = this.#control + READY_INDEX;
    // Told by the upcall if it is set after this look.
    if (Atomics.load(this.#words, ready) === 0) return;
    this.#ready |= Atomics.exchange(this.#words, ready, 0) & ~this.#stopped & 0xffff;
  }

  #take(priority: number, round: number): boolean {
    const words = this.#words;
    const bit = 1 << priority;
    let port = this.#heads[priority]!;
    if (port === 0) port = words[this.#control + HEAD_INDEX + priority]! & LINK; // written before its ready bit
    if (port === 0 || port >= this.#portCount) {
      this.#heads[priority] = 0;
      this.#ready &= ~bit;
      return false;
    }
    if (port >= this.#takenIn.length) this.#grow(port);
    if (this.#takenIn[port] === round) {
      // A head of the control block is not kept: a queue that was made ready for nothing may begin anew meanwhile.
      this.#ready &= ~bit;
      this.#stopped |= bit;
      return false;
    }
    this.#takenIn[port] = round;
    const word = this.#unlink(port);
    const next = word & LINK;
    this.#heads[priority] = next;
    if (next === 0) this.#ready &= ~bit;
    return (word & (PENDING | MASKED)) === PENDING && this.#run(port);
  }

  /**
   * Takes a port off its queue, and its event with it unless it is masked: in one step, so a sender sees both or neither.
   * Answers the word as it was before.
   */
  #unlink(port: number): number {
    const at = this.#array + port;
    let word = this.#words[at]!;
    for (;;) {
      const keep = (word & MASKED) === 0 ? ~(LINKED | LINK | PENDING) : ~(LINKED | LINK);
      const seen = Atomics.compareExchange(this.#words, at, word, word & keep);
      if (seen === word) return word;
      word = seen;
    }
  }

  #grow(port: number): void {
    const grown = new Uint32Array(Math.min(2 ** Math.ceil(Math.log2(port + 1)), this.#portCount));
    grown.set(this.#takenIn);
    this.#takenIn = grown;
  }
}
