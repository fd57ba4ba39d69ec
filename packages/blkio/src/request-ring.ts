import { VIRTIO_F_RING_PACKED, hasFeature } from '@virtlab/abi/virtio';
import { VIRTIO_BLK_T_FLUSH } from '@virtlab/abi/virtio-blk';
import type { DriverSession } from '@virtlab/virtio';
import { ADD_FULL, type BufferList, type DriverQueue, createBufferList } from '@virtlab/vring';
import { BLKIO_BROKEN, BLKIO_FULL } from './contract.ts';
import { RESULT_ECANCELED, RESULT_ENODEV, RESULT_ETIMEDOUT } from './errors.ts';
import { BUFFER_COUNT_MAX } from './options.ts';
import type { OverdueClock } from './overdue-clock.ts';
import { RequestAges } from './request-ages.ts';
import { RequestSlots, SLOT_DONE, SLOT_IN_FLIGHT } from './request-slots.ts';
import { SlotBacklog } from './slot-backlog.ts';

// V8 folds a module's own constants into optimized code, but loads imported ones from their cells each time.
const FLUSH = VIRTIO_BLK_T_FLUSH;
const FULL = BLKIO_FULL;
const BROKEN = BLKIO_BROKEN;
const IN_FLIGHT = SLOT_IN_FLIGHT;
const DONE = SLOT_DONE;

/** Whose request it is. */
export const FACE_BATCH = 0;
export const FACE_PROMISE = 1;

export interface RequestRingOptions {
  readonly session: DriverSession;
  readonly index: number;
  readonly depth: number;
  readonly clock: OverdueClock;
  /** A promise's request ended. */
  readonly onPromise: (token: number, result: number) => void;
  /** Requests of the batch face ended otherwise than in `pop`. */
  readonly onBacklog: () => void;
  /** The device broke the ring. */
  readonly onViolation: (reason: string) => void;
}

/**
 * The data plane of one queue. Synchronous; allocates nothing per request, reads no clock, creates no closure.
 *
 * Requests are staged on the ring and shown to the device by `submit`. Those that are complete are taken off it either by
 * `pop`, for who polls, or by `reap`, from the loop: it leaves results of the batch face in their slots, in the order of
 * completion, until `pop` comes for them. A slot is taken until its result is; so `depth` bounds both.
 */
export class RequestRing {
  readonly slots: RequestSlots;
  requestCount = 0;
  completionCount = 0;
  failureCount = 0;
  readonly #options: RequestRingOptions;
  /** For who stages requests: the ring, and a list to fill. */
  readonly ring: DriverQueue;
  readonly list: BufferList = createBufferList(BUFFER_COUNT_MAX);
  readonly #clock: OverdueClock;
  readonly #backlog: SlotBacklog;
  readonly #ages = new RequestAges();
  #isClosed = false;
  #isDirty = false;
  /** A flush was staged that nobody but this ring submits. */
  #owesFlush = false;

  /** @throws DmaError */
  constructor(options: RequestRingOptions) {
    const { session, index, depth } = options;
    this.#options = options;
    this.#clock = options.clock;
    this.ring = session.queues[index]!;
    this.ring.disableCalls();
    const isPacked = hasFeature(session.features, VIRTIO_F_RING_PACKED);
    this.slots = new RequestSlots(session.link.dma, depth, isPacked);
    this.#backlog = new SlotBacklog(depth);
  }

  /** Staged, in flight, or complete and not taken. */
  get inUseCount(): number {
    return this.slots.depth - this.slots.freeCount;
  }

  /**
   * The slot for the next request; or `BLKIO_FULL`, or `BLKIO_BROKEN`, when nothing may be written: the memory of a disk that was
   * closed is somebody else's.
   */
  get next(): number {
    if (this.#isClosed) return BROKEN;
    return this.slots.freeCount === 0 ? FULL : this.slots.next;
  }

  /** Requests of the batch face that are in their slots with a result. */
  get backlogCount(): number {
    return this.#backlog.count;
  }

  /** Shows the device what was staged: one publication, at most one doorbell. */
  submit(): void {
    if (!this.#isDirty) return;
    this.#isDirty = false;
    this.#ages.submitted = this.#ages.staged;
    if (!this.#clock.isRunning) this.#clock.start();
    this.#options.session.kick(this.#options.index);
  }

  /**
   * A slot of the batch face that has a result, which the caller reads and gives back; -1 when there is none. Results of
   * promises that it comes by are told.
   */
  pop(): number {
    if (this.#backlog.count > 0) return this.#backlog.shift();
    const { slots } = this;
    for (let slot = this.#popRing(); slot >= 0; slot = this.#popRing()) {
      if (slots.face[slot] === FACE_BATCH) return slot;
      this.#settle(slot);
    }
    return -1;
  }

  /** Takes everything that is complete off the ring. */
  reap(): void {
    const { slots } = this;
    for (let slot = this.#popRing(); slot >= 0; slot = this.#popRing()) {
      if (slots.face[slot] === FACE_BATCH) this.#backlog.push(slot);
      else this.#settle(slot);
    }
  }

  disableCalls(): void {
    this.ring.disableCalls();
  }

  /** The clock ticked: true when a request is overdue, also after a last look. */
  isOverdue(): boolean {
    this.reap();
    this.#ages.tick();
    return this.#isAnyLeft(this.#ages.due);
  }

  /** Whether nothing that the device was shown is left: then what the clock saw is forgotten, and it may rest. */
  isIdle(): boolean {
    if (this.#isAnyLeft(this.#ages.submitted)) return false;
    this.#ages.rest();
    return true;
  }

  /**
   * Nothing is accepted any more. What the device was shown ends with `-ENODEV`, or with `-ETIMEDOUT` where it is overdue, the
   * rest with `-ECANCELED`.
   */
  close(reason: string, isTimeout: boolean): void {
    if (this.#isClosed) return;
    this.reap();
    this.#isClosed = true;
    this.#isDirty = false;
    this.ring.markBroken({ section: '2.1.2', message: reason });
    const { slots } = this;
    for (let slot = 0; slot < slots.depth; slot += 1) {
      if (slots.state[slot] !== IN_FLIGHT) continue;
      if (isTimeout && this.#isBefore(slot, this.#ages.due)) this.#finish(slot, RESULT_ETIMEDOUT);
      else this.#finish(slot, this.#isBefore(slot, this.#ages.submitted) ? RESULT_ENODEV : RESULT_ECANCELED);
      if (slots.face[slot] === FACE_BATCH) this.#backlog.push(slot);
      else this.#settle(slot);
    }
    this.#options.onBacklog();
  }

  /** Adds the request of `list` in `slot`, which is `next`: 0, `BLKIO_FULL` or `BLKIO_BROKEN`. */
  stage(slot: number, token: number, face: number, isDurable: number): number {
    return this.staged(this.ring.add(this.list, slot), slot, token, face, isDurable);
  }

  /** What became of adding it to the ring. */
  staged(status: number, slot: number, token: number, face: number, isDurable: number): number {
    if (status !== 0) return status === ADD_FULL ? FULL : BROKEN;
    const { slots } = this;
    slots.take();
    slots.state[slot] = IN_FLIGHT;
    slots.face[slot] = face;
    slots.isDurable[slot] = isDurable;
    slots.token[slot] = token;
    slots.sequence[slot] = this.#ages.next();
    this.requestCount += 1;
    this.#isDirty = true;
    return 0;
  }

  /** A request that the device need not see. */
  complete(result: number, token: number, face: number): number {
    const { slots } = this;
    const slot = this.next;
    if (slot < 0) return slot;
    slots.take();
    slots.face[slot] = face;
    slots.token[slot] = token;
    this.requestCount += 1;
    this.#finish(slot, result);
    if (face === FACE_BATCH) {
      this.#backlog.push(slot);
      this.#options.onBacklog();
    } else this.#settle(slot);
    return 0;
  }

  #popRing(): number {
    const ring = this.ring;
    const { slots } = this;
    for (;;) {
      const slot = ring.popUsed();
      if (slot < 0) break;
      const result = slots.answer(slot);
      if (slots.isDurable[slot] === 1 && result === 0 && this.#flushAfter(slot)) continue;
      this.#finish(slot, result);
      return slot;
    }
    if (this.#owesFlush) {
      this.#owesFlush = false;
      this.submit();
    }
    if (ring.violation !== undefined && !this.#isClosed) this.#report();
    return -1;
  }

  /** The data is written; the descriptors that it had are free for the flush that makes it durable. */
  #flushAfter(slot: number): boolean {
    const { slots } = this;
    slots.isDurable[slot] = 0;
    slots.begin(this.list, slot, FLUSH, 0);
    slots.end(this.list, slot);
    if (this.ring.add(this.list, slot) !== 0) return false;
    slots.sequence[slot] = this.#ages.next();
    this.#isDirty = true;
    this.#owesFlush = true;
    return true;
  }

  #finish(slot: number, result: number): void {
    const { slots } = this;
    slots.state[slot] = DONE;
    slots.result[slot] = result;
    this.completionCount += 1;
    if (result !== 0) this.failureCount += 1;
  }

  #settle(slot: number): void {
    const { slots } = this;
    slots.give(slot);
    this.#options.onPromise(slots.token[slot]!, slots.result[slot]!);
  }

  #report(): void {
    const { violation } = this.ring;
    this.#options.onViolation(`queue ${this.#options.index}: §${violation?.section} ${violation?.message}`);
  }

  #isAnyLeft(limit: number): boolean {
    const { slots } = this;
    for (let slot = 0; slot < slots.depth; slot += 1)
      if (slots.state[slot] === IN_FLIGHT && this.#isBefore(slot, limit)) return true;
    return false;
  }

  #isBefore(slot: number, limit: number): boolean {
    return ((this.slots.sequence[slot]! - limit) | 0) <= 0;
  }
}
