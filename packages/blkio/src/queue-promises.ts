import { VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT } from '@virtlab/abi/virtio-blk';
import {
  BLKIO_BROKEN,
  BLKIO_FULL,
  type BlkioPromises,
  type BlkioRegion,
  type BlkioVector,
} from './contract.ts';
import type { DiskState } from './disk-state.ts';
import { BlkioError, resultError } from './errors.ts';
import { FACE_PROMISE } from './request-ring.ts';
import type { RequestStager } from './request-stager.ts';
import { RequestVector } from './vector.ts';

interface Pending {
  readonly what: string;
  readonly position: number;
  readonly promise: PromiseWithResolvers<void>;
  /** Tries again to put it on the ring, by its token: 0, `BLKIO_FULL` or `BLKIO_BROKEN`. */
  readonly attempt: (token: number) => number;
}

const FACE = FACE_PROMISE;

/** Requests as promises: wait for room in the order in which they came, and are shown to the device at the end of the turn. */
export class QueuePromises implements BlkioPromises {
  readonly #stager: RequestStager;
  readonly #submit: () => void;
  readonly #disk: DiskState;
  readonly #onPending: () => void;
  readonly #pending: (Pending | undefined)[] = [];
  readonly #freeTokens: number[] = [];
  readonly #waiting: Pending[] = [];
  #isSubmitDue = false;
  /** On the ring. */
  pendingCount = 0;

  /** `onPending`: somebody has to notice completions, from now until `pendingCount` is 0. */
  constructor(stager: RequestStager, submit: () => void, disk: DiskState, onPending: () => void) {
    this.#stager = stager;
    this.#submit = submit;
    this.#disk = disk;
    this.#onPending = onPending;
  }

  get isWaiting(): boolean {
    return this.#waiting.length > 0;
  }

  async read(
    position: number,
    region: BlkioRegion,
    offset: number,
    size: number,
    flags: number = 0,
  ): Promise<void> {
    await this.#request('read', position, (token) =>
      this.#stager.transfer(VIRTIO_BLK_T_IN, position, region, offset, size, token, flags, FACE),
    );
  }

  async write(
    position: number,
    region: BlkioRegion,
    offset: number,
    size: number,
    flags: number = 0,
  ): Promise<void> {
    await this.#request('write', position, (token) =>
      this.#stager.transfer(VIRTIO_BLK_T_OUT, position, region, offset, size, token, flags, FACE),
    );
  }

  async readv(position: number, vector: BlkioVector, flags: number = 0): Promise<void> {
    await this.#vectored('readv', VIRTIO_BLK_T_IN, position, vector, flags);
  }

  async writev(position: number, vector: BlkioVector, flags: number = 0): Promise<void> {
    await this.#vectored('writev', VIRTIO_BLK_T_OUT, position, vector, flags);
  }

  async flush(): Promise<void> {
    await this.#request('flush', 0, (token) => this.#stager.flush(token, 0, FACE));
  }

  async discard(position: number, size: number, flags: number = 0): Promise<void> {
    await this.#request('discard', position, (token) =>
      this.#stager.discard(position, size, token, flags, FACE),
    );
  }

  async writeZeroes(position: number, size: number, flags: number = 0): Promise<void> {
    await this.#request('write zeroes', position, (token) =>
      this.#stager.writeZeroes(position, size, token, flags, FACE),
    );
  }

  /** The request of `token` ended. */
  settle(token: number, result: number): void {
    const { what, position, promise } = this.#pending[token]!;
    this.#forget(token);
    if (result === 0) promise.resolve();
    else promise.reject(resultError(`${what} at ${position}`, result, this.#disk.failure));
  }

  /** There may be room. */
  pump(): void {
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      try {
        if (this.#start(next) === BLKIO_FULL) return;
      } catch (error) {
        // Its region was given back, or the disk became smaller, while it waited.
        next.promise.reject(error);
      }
      this.#waiting.shift();
    }
  }

  async #vectored(
    what: string,
    type: number,
    position: number,
    vector: BlkioVector,
    flags: number,
  ): Promise<void> {
    if (!(vector instanceof RequestVector)) throw new TypeError('The vector was not made by createVector');
    // It is the caller's to fill again once this returns, so what has to wait keeps the pieces as they are.
    let kept = vector;
    await this.#request(
      what,
      position,
      (token) => this.#stager.transferVector(type, position, kept, token, flags, FACE),
      () => {
        kept = vector.copy();
      },
    );
  }

  async #request(
    what: string,
    position: number,
    attempt: (token: number) => number,
    onWait?: () => void,
  ): Promise<void> {
    const pending: Pending = { what, position, promise: Promise.withResolvers<void>(), attempt };
    if (this.isWaiting || this.#start(pending) === BLKIO_FULL) {
      onWait?.();
      this.#waiting.push(pending);
    }
    await pending.promise.promise;
  }

  #start(pending: Pending): number {
    const token = this.#freeTokens.pop() ?? this.#pending.length;
    this.#pending[token] = pending;
    this.pendingCount += 1;
    let result = BLKIO_FULL;
    try {
      result = pending.attempt(token);
    } finally {
      if (result !== 0) this.#forget(token);
    }
    if (result === BLKIO_BROKEN) {
      const { failure = 'the queue is broken' } = this.#disk;
      pending.promise.reject(new BlkioError('ENODEV', `${pending.what} at ${pending.position}: ${failure}`));
    } else if (result === 0) this.#submitLater();
    return result;
  }

  #forget(token: number): void {
    this.#pending[token] = undefined;
    this.#freeTokens.push(token);
    this.pendingCount -= 1;
  }

  #submitLater(): void {
    this.#onPending();
    if (this.#isSubmitDue) return;
    this.#isSubmitDue = true;
    queueMicrotask(() => {
      this.#isSubmitDue = false;
      this.#submit();
    });
  }
}
