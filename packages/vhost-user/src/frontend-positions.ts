/** Where rings go on that stood still: after their device stopped them, or when another process has them. */
import { type HandOverHandler, TransportError } from '@virtlab/virtio';
import { type Outcome, good } from './fault.ts';
import { badAnswer } from './frontend-fault.ts';
import type { FrontendRing, QueuePosition } from './frontend-ring.ts';

/**
 * A device should have finished what it took from a ring when it says where the ring stands (GET_VRING_BASE). Some answer at once
 * and finish later, some give up; either way the base is where their own record ends, and is what they are told back.
 *
 * A split ring is also written anew, from the used index on with what is not used, in its order. Behind the base that is what
 * stood there; before it nobody looks who remembers what he took. A packed ring cannot be written anew, for used descriptors
 * lie over those of requests in flight.
 */
export class RingPositions {
  readonly #isPacked: boolean;
  readonly #handOver: HandOverHandler | undefined;

  constructor(isPacked: boolean, handOver: HandOverHandler | undefined) {
    this.#isPacked = isPacked;
    this.#handOver = handOver;
  }

  /** The device that stopped the ring has not finished what it took, and there is a driver that waits for it. */
  isUnfinished(ring: FrontendRing): boolean {
    const { index, addresses, stoppedAt } = ring;
    if (this.#isPacked || addresses === undefined || stoppedAt === undefined) return false;
    const known = this.#handOver?.(index, false);
    if (known === undefined) return false;
    const count = distance(known.used, stoppedAt.available);
    return count > 0 && count <= addresses.size;
  }

  /** For the process that stopped the ring. Undefined when the driver is done with the queue, or finds it broken. */
  here({ index, addresses, stoppedAt }: FrontendRing): Outcome<QueuePosition | undefined> {
    if (this.#handOver === undefined) return good(stoppedAt);
    const known = this.#handOver(index, !this.#isPacked);
    if (known === undefined || this.#isPacked) return good(known && stoppedAt);
    const { used } = known;
    const { available } = stoppedAt!;
    if (distance(used, available) > addresses!.size) {
      const fault = badAnswer('GET_VRING_BASE', 'index', available, `${used} or at most a ring further`);
      return { ok: false, fault };
    }
    return good({ available, used });
  }

  /** For another process; `isTold` what the one before had begun. Throws `TransportError` `ENOTSUP` when nobody knows. */
  elsewhere(rings: readonly FrontendRing[], isTold: boolean): ReadonlyMap<FrontendRing, QueuePosition> {
    return new Map(
      rings.map((ring) => {
        const start = this.#isPacked ? this.#ofPacked(ring, isTold) : this.#handOver?.(ring.index, true);
        if (start !== undefined) return [ring, start];
        const what = `Nobody knows where queue ${ring.index} goes on after its device died`;
        throw new TransportError('ENOTSUP', what);
      }),
    );
  }

  /** What its device told counts for more than what the driver has seen. */
  #ofPacked({ index, stoppedAt }: FrontendRing, isTold: boolean): QueuePosition | undefined {
    const isDone = stoppedAt !== undefined && stoppedAt.available === stoppedAt.used;
    const known = this.#handOver?.(index, !isTold && !isDone);
    return known !== undefined && (isTold || isDone) ? (stoppedAt ?? known) : known;
  }
}

/** From one index of a split ring to another. */
function distance(from: number, to: number): number {
  return (to - from) & 0xffff;
}
