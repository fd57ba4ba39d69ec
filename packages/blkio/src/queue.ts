import { VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT } from '@virtlab/abi/virtio-blk';
import { hasFeature } from '@virtlab/abi/virtio';
import { VIRTIO_RING_F_INDIRECT_DESC } from '@virtlab/abi/virtio-ring';
import type { AioContext } from '@virtlab/aio';
import type { DriverSession } from '@virtlab/virtio';
import { CompletionStream } from './completion-stream.ts';
import type {
  BlkioCompletions,
  BlkioPromises,
  BlkioQueue,
  BlkioQueueStatistics,
  BlkioRegion,
  BlkioVector,
} from './contract.ts';
import type { DiskState } from './disk-state.ts';
import type { OverdueClock } from './overdue-clock.ts';
import { QueuePromises } from './queue-promises.ts';
import type { Region } from './region.ts';
import { FACE_BATCH, RequestRing } from './request-ring.ts';
import { RequestStager } from './request-stager.ts';
import { RequestVector } from './vector.ts';

const IN = VIRTIO_BLK_T_IN;
const OUT = VIRTIO_BLK_T_OUT;
const BATCH = FACE_BATCH;
/** Empty looks between two at the clock. */
const LOOKS_PER_CLOCK = 64;

export interface QueueOptions {
  readonly session: DriverSession;
  readonly aio: AioContext;
  readonly index: number;
  readonly depth: number;
  readonly disk: DiskState;
  readonly clock: OverdueClock;
  readonly zeroes: Region | undefined;
  readonly onViolation: (reason: string) => void;
}

/**
 * The three faces of a ring, and who notices completions: a caller that polls, or the loop.
 *
 * Calls are off from the beginning (the device is asked not to ring) and as long as nobody needs them. They are needed
 * while a promise is pending or somebody iterates: the session then has a handler for this queue. No wake-up is lost on the way there:
 * installing a handler makes the session run it once from the loop, however much the device did before, and after
 * every run it enables calls and then looks at the ring again (`CallService`), so what completed before the device could see that it
 * shall call is found by that look, and what completes later is called for. On the way back, in `poll`, nobody waits who would
 * be woken: calls that the device still owes find no handler.
 */
export class RequestQueue implements BlkioQueue {
  readonly index: number;
  readonly depth: number;
  readonly promises: BlkioPromises;
  readonly #session: DriverSession;
  readonly #aio: AioContext;
  readonly #disk: DiskState;
  readonly #ring: RequestRing;
  readonly #stager: RequestStager;
  readonly #promises: QueuePromises;
  #stream: CompletionStream | undefined;
  /** The session has a handler. */
  #isCalled = false;

  /** @throws DmaError */
  constructor(options: QueueOptions) {
    const { session, aio, index, depth, disk, clock, zeroes, onViolation } = options;
    this.index = index;
    this.depth = depth;
    this.#session = session;
    this.#aio = aio;
    this.#disk = disk;
    this.#ring = new RequestRing({
      session,
      index,
      depth,
      clock,
      onPromise: (token, result) => this.#promises.settle(token, result),
      onBacklog: () => this.#stream?.wake(),
      onViolation,
    });
    const isIndirect = hasFeature(session.features, VIRTIO_RING_F_INDIRECT_DESC);
    this.#stager = new RequestStager(this.#ring, disk, isIndirect, zeroes);
    const submit = (): void => this.#ring.submit();
    this.#promises = new QueuePromises(this.#stager, submit, disk, () => this.#needCalls());
    this.promises = this.#promises;
  }

  get inFlightCount(): number {
    return this.#ring.inUseCount;
  }

  get statistics(): BlkioQueueStatistics {
    const { kicks, kicksSuppressed, calls } = this.#session.statistics[this.index]!;
    const { requestCount: requests, completionCount: completions, failureCount: failures } = this.#ring;
    return { requests, completions, failures, kicks, kicksSuppressed, calls };
  }

  read(
    position: number,
    region: BlkioRegion,
    offset: number,
    size: number,
    token: number,
    flags: number = 0,
  ): number {
    return this.#stager.transfer(IN, position, region, offset, size, token, flags, BATCH);
  }

  write(
    position: number,
    region: BlkioRegion,
    offset: number,
    size: number,
    token: number,
    flags: number = 0,
  ): number {
    return this.#stager.transfer(OUT, position, region, offset, size, token, flags, BATCH);
  }

  readv(position: number, vector: BlkioVector, token: number, flags: number = 0): number {
    return this.#stager.transferVector(IN, position, vectorOf(vector), token, flags, BATCH);
  }

  writev(position: number, vector: BlkioVector, token: number, flags: number = 0): number {
    return this.#stager.transferVector(OUT, position, vectorOf(vector), token, flags, BATCH);
  }

  flush(token: number, flags: number = 0): number {
    return this.#stager.flush(token, flags, BATCH);
  }

  discard(position: number, size: number, token: number, flags: number = 0): number {
    return this.#stager.discard(position, size, token, flags, BATCH);
  }

  writeZeroes(position: number, size: number, token: number, flags: number = 0): number {
    return this.#stager.writeZeroes(position, size, token, flags, BATCH);
  }

  submit(): void {
    this.#ring.submit();
  }

  poll(into: BlkioCompletions): number {
    if (this.#stream !== undefined) refuseBoth();
    if (!this.#isCalled) this.#ring.disableCalls();
    else if (this.#promises.pendingCount === 0) this.#stopCalls();
    const count = this.#take(into, 0);
    if (this.#promises.isWaiting) this.#promises.pump();
    return count;
  }

  pollUntil(into: BlkioCompletions, countMin: number, timeoutMs: number): number {
    if (!(countMin <= into.tokens.length && countMin <= this.inFlightCount))
      throw new RangeError(
        `${countMin} completions do not come from ${this.inFlightCount} requests into ${into.tokens.length} places`,
      );
    this.#ring.submit();
    let count = this.poll(into);
    if (count >= countMin) return count;
    const until = this.#aio.now() + timeoutMs;
    for (let looks = 1; ; looks += 1) {
      count = this.#take(into, count);
      if (count >= countMin || this.#disk.failure !== undefined) break;
      if (looks % LOOKS_PER_CLOCK === 0 && this.#aio.now() >= until) break;
    }
    if (this.#promises.isWaiting) this.#promises.pump();
    return count;
  }

  completions(): AsyncIterableIterator<BlkioCompletions> {
    if (this.#stream !== undefined) refuseBoth();
    const stream = new CompletionStream(this.depth, {
      take: (into) => {
        const count = this.#take(into, 0);
        if (this.#promises.isWaiting) this.#promises.pump();
        return count;
      },
      isOver: () => this.#disk.failure !== undefined,
      onEnd: () => {
        this.#stream = undefined;
      },
    });
    this.#stream = stream;
    this.#needCalls();
    return stream;
  }

  /** The clock ticked: true when a request is overdue. */
  isOverdue(): boolean {
    const isOverdue = this.#ring.isOverdue();
    this.#tell();
    return isOverdue;
  }

  isIdle(): boolean {
    return this.#ring.isIdle();
  }

  /** The disk failed, and says so by now. */
  close(reason: string, isTimeout: boolean): void {
    this.#session.onCall(this.index, undefined);
    this.#isCalled = true;
    this.#ring.close(reason, isTimeout);
    this.#promises.pump();
    this.#stream?.wake();
  }

  /** Only after the device was reset. */
  release(): void {
    this.#ring.slots.release();
  }

  #take(into: BlkioCompletions, from: number): number {
    const ring = this.#ring;
    const { slots } = ring;
    const { tokens, results } = into;
    const capacity = tokens.length;
    let count = from;
    while (count < capacity) {
      const slot = ring.pop();
      if (slot < 0) break;
      tokens[count] = slots.token[slot]!;
      results[count] = slots.result[slot]!;
      count += 1;
      slots.give(slot);
    }
    into.count = count;
    return count;
  }

  #needCalls(): void {
    if (this.#isCalled) return;
    this.#isCalled = true;
    this.#session.onCall(this.index, () => this.#called());
  }

  #stopCalls(): void {
    this.#isCalled = false;
    this.#session.onCall(this.index, undefined);
    this.#ring.disableCalls();
  }

  #called(): void {
    this.#ring.reap();
    this.#tell();
  }

  /** After completions were taken off the ring. */
  #tell(): void {
    if (this.#promises.isWaiting) this.#promises.pump();
    if (this.#ring.backlogCount > 0) this.#stream?.wake();
  }
}

function vectorOf(vector: BlkioVector): RequestVector {
  if (vector instanceof RequestVector) return vector;
  throw new TypeError('The vector was not made by createVector');
}

function refuseBoth(): never {
  throw new TypeError('Somebody iterates over the completions of this queue');
}
