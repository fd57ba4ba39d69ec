import type { FeatureBits } from '@virtlab/abi/brands';
import { VIRTIO_BLK_SECTOR_SIZE } from '@virtlab/abi/virtio-blk';
import type { DriverSession } from '@virtlab/virtio';
import { type DiskProfile, followDiskProfile } from '@virtlab/virtio-blk';
import type { Blkio, BlkioLimits, BlkioQueue, BlkioRegion } from './contract.ts';
import { DiskState } from './disk-state.ts';
import { BlkioError, refuseMapping } from './errors.ts';
import { type ResolvedOptions, depthOf, limitsOf } from './options.ts';
import { OverdueClock } from './overdue-clock.ts';
import { RequestQueue } from './queue.ts';
import { type Lent, Region } from './region.ts';
import { OVERDUE_TICKS } from './request-ages.ts';

/** A disk over a session that is live, which it owns. */
export class SessionBlkio implements Blkio {
  readonly features: FeatureBits;
  readonly limits: BlkioLimits;
  readonly queues: readonly BlkioQueue[];
  readonly #session: DriverSession;
  readonly #state: DiskState;
  readonly #queues: RequestQueue[] = [];
  readonly #clock: OverdueClock;
  /** All memory that the device can reach, and how each goes back to where it is from. */
  readonly #regions = new Map<Region, () => void>();
  readonly #timeoutMs: number;
  readonly #options: ResolvedOptions;
  readonly #ringSizes: readonly number[];
  #onCapacityChange: ((capacity: number) => void) | undefined;
  #closing: Promise<void> | undefined;

  /** Lends nothing yet: see `begin`. Throws `BlkioError` `EPROTO`. */
  constructor(session: DriverSession, profile: DiskProfile, options: ResolvedOptions) {
    const { aio, timeoutMs } = options;
    const { features, link } = session;
    const queueCount = Math.min(profile.queueCount, session.queues.length);
    const sizes = session.queues.slice(0, queueCount).map(({ size }) => size);
    this.#session = session;
    this.#options = options;
    this.#ringSizes = sizes;
    this.#timeoutMs = timeoutMs;
    this.features = features;
    this.limits = limitsOf(profile, features, Math.min(...sizes), link.mappedMemoryCountMax ?? 0);
    this.#state = new DiskState(profile, this.limits, features);
    this.#state.capacity = bytesOf(profile);
    this.#clock = new OverdueClock(aio, timeoutMs / OVERDUE_TICKS, () => this.#tick());
    this.queues = this.#queues;
  }

  /** Throws `DmaError`; then the device is to be reset, and what was lent until then `release`d. */
  begin(): void {
    const { aio, queueDepth } = this.#options;
    const session = this.#session;
    const needsZeroes = !this.#state.hasWriteZeroes && !this.readOnly;
    const zeroes = needsZeroes ? this.#allocate(this.#zeroesSize) : undefined;
    for (const [index, ringSize] of this.#ringSizes.entries()) {
      const depth = depthOf(ringSize, this.features, queueDepth);
      const common = { session, aio, disk: this.#state, clock: this.#clock, zeroes };
      const onViolation = (reason: string): void => this.#fail(reason, false);
      this.#queues.push(new RequestQueue({ ...common, index, depth, onViolation }));
    }
    session.onBroken((reason) => this.#fail(reason, false));
    followDiskProfile(session, (now) => this.#takeCapacity(bytesOf(now)));
  }

  get capacity(): number {
    return this.#state.capacity;
  }
  get readOnly(): boolean {
    return this.#state.readOnly;
  }
  get needsFlush(): boolean {
    return this.#state.needsFlush;
  }
  get failure(): string | undefined {
    return this.#state.failure;
  }

  onCapacityChange(handler: ((capacity: number) => void) | undefined): void {
    this.#onCapacityChange = handler;
  }

  allocateRegion(size: number): BlkioRegion {
    this.#requireOpen();
    return this.#allocate(size);
  }

  async mapRegion(fd: number, offset: number, size: number): Promise<BlkioRegion> {
    this.#requireOpen();
    const { link } = this.#session;
    if (link.mapMemory === undefined)
      throw new BlkioError('ENOTSUP', `${link.transport.capabilities.name} cannot map memory of others`);
    const lent = await link.mapMemory(fd, offset, size).catch(refuseMapping);
    const giveBack = (): void => lent[Symbol.dispose]();
    if (this.failure !== undefined) {
      // No request has used it.
      giveBack();
      this.#requireOpen();
    }
    return this.#add(lent, giveBack);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    this.#fail('the disk was closed', false);
    await this.#session.stop();
    this.release();
  }

  /** Only after the device was reset. */
  release(): void {
    this.#clock[Symbol.dispose]();
    for (const queue of this.#queues) queue.release();
    for (const region of this.#regions.keys()) {
      region.owner = undefined;
      this.#giveBack(region);
    }
  }

  get #zeroesSize(): number {
    return this.limits.writeZeroesSizeMax / this.limits.segmentCountMax;
  }

  #allocate(size: number): Region {
    const { dma } = this.#session.link;
    const buffer = dma.allocateCoherent(size);
    return this.#add({ ...buffer, memory: dma.memory, size }, () => dma.freeCoherent(buffer));
  }

  #add(lent: Lent, giveBack: () => void): Region {
    const region = new Region(this.#state, lent, (disposed) => this.#disposed(disposed));
    this.#regions.set(region, giveBack);
    return region;
  }

  /**
   * While the disk works, who disposes of a region knows that no request uses it. Requests that a disk gave up when it failed are
   * still the device's, which writes where they said until it was reset: that memory goes back in `release`.
   */
  #disposed(region: Region): void {
    if (this.failure === undefined) this.#giveBack(region);
  }

  #giveBack(region: Region): void {
    const giveBack = this.#regions.get(region);
    this.#regions.delete(region);
    giveBack?.();
  }

  #requireOpen(): void {
    const { failure } = this;
    if (failure !== undefined) throw new BlkioError('ENODEV', failure);
  }

  #takeCapacity(capacity: number): void {
    if (capacity === this.#state.capacity) return;
    this.#state.capacity = capacity;
    this.#onCapacityChange?.(capacity);
  }

  #tick(): boolean {
    let isOverdue = false;
    for (const queue of this.#queues) if (queue.isOverdue()) isOverdue = true;
    if (isOverdue) this.#fail(`a request was not completed within ${this.#timeoutMs} ms`, true);
    if (this.#state.failure !== undefined) return false;
    let isIdle = true;
    for (const queue of this.#queues) if (!queue.isIdle()) isIdle = false;
    return !isIdle;
  }

  #fail(reason: string, isTimeout: boolean): void {
    if (this.#state.failure !== undefined) return;
    this.#state.failure = reason;
    for (const queue of this.#queues) queue.close(reason, isTimeout);
    this.#clock[Symbol.dispose]();
  }
}

function bytesOf({ capacitySectors }: DiskProfile): number {
  return capacitySectors * VIRTIO_BLK_SECTOR_SIZE;
}
