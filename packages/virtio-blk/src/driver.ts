import type { FeatureBits } from '@virtlab/abi/brands';
import { VIRTIO_ID_BLOCK, hasFeature } from '@virtlab/abi/virtio';
import {
  VIRTIO_BLK_CONFIG,
  VIRTIO_BLK_F_CONFIG_WCE,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_LIFETIME,
  VIRTIO_BLK_F_ZONED,
  VIRTIO_BLK_ID_BYTES,
  VIRTIO_BLK_LIFETIME,
  VIRTIO_BLK_LIFETIME_EST_EXCEEDED,
  VIRTIO_BLK_PRE_EOL_INFO_URGENT,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_S_ZONE_ACTIVE_RESOURCE,
  VIRTIO_BLK_SECTOR_SIZE,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_GET_LIFETIME,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_SECURE_ERASE,
  VIRTIO_BLK_T_WRITE_ZEROES,
  VIRTIO_BLK_T_ZONE_APPEND,
  VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
} from '@virtlab/abi/virtio-blk';
import type { MemoryRegion } from '@virtlab/guest-memory';
import { type DriverLink, type DriverSession, initializeDevice } from '@virtlab/virtio';
import type { BlkLifetime } from './backend.ts';
import type { BlkGeometry, BlkTopology } from './disk-shape.ts';
import type { BlkDriver, BlkDriverStatistics } from './driver-contract.ts';
import { followDiskProfile, readDiskProfile } from './disk-profile.ts';
import type { DiskProfile, RangeLimit } from './driver-config.ts';
import { ANY_QUEUE, RequestEngine } from './driver-engine.ts';
import { JobQueue } from './driver-jobs.ts';
import type { BlkQueueStatistics } from './driver-queue.ts';
import { type BlkZones, DriverZones } from './driver-zones.ts';
import {
  BUFFER_COUNT_MAX,
  type BlkDriverOptions,
  type ResolvedDriverOptions,
  type TransferLimits,
  resolveDriverOptions,
  transferLimits,
} from './driver-options.ts';
import { BlkError } from './errors.ts';

/**
 * Brings up the block device behind `link`, which stays the caller's to dispose.
 *
 * Rejects as `initializeDevice`; with `BlkError` `EPROTO` when the device is no disk or its configuration makes no sense;
 * with `DmaError` when there is no memory for requests. Nothing stays lent then. Rejects with `RangeError` for bad options.
 */
export async function createBlkDriver(link: DriverLink, options: BlkDriverOptions): Promise<BlkDriver> {
  const resolved = resolveDriverOptions(options);
  const { deviceType, queueCount } = link.transport;
  if (deviceType !== VIRTIO_ID_BLOCK) throw new BlkError('EPROTO', `device type ${deviceType} is not a disk`);
  const session = await initializeDevice(link, {
    aio: resolved.aio,
    wanted: resolved.wanted,
    queueCount: Math.max(1, Math.min(resolved.queueCount, queueCount)),
    queueSizeMax: resolved.queueSize,
    timeoutMs: resolved.timeoutMs,
    polling: resolved.polling,
    bufferCountMax: BUFFER_COUNT_MAX,
  });
  try {
    return new SessionBlkDriver(session, await readDiskProfile(session), resolved);
  } catch (error) {
    await session.stop().catch(() => undefined);
    throw error;
  }
}

class SessionBlkDriver implements BlkDriver {
  readonly readOnly: boolean;
  readonly blockSize: number;
  readonly features: FeatureBits;
  readonly memory: MemoryRegion;
  readonly zones: BlkZones | undefined;
  readonly #session: DriverSession;
  /** As the configuration says now. */
  #profile: DiskProfile;
  readonly #limits: TransferLimits;
  readonly #engine: RequestEngine;
  readonly #jobs: JobQueue;
  readonly #buffers = new Map<number, number>();
  #onCapacityChange: ((capacitySectors: number) => void) | undefined;
  #closing: Promise<void> | undefined;

  constructor(session: DriverSession, profile: DiskProfile, options: ResolvedDriverOptions) {
    const { aio, bounceCount } = options;
    const { dma } = session.link;
    const queueCount = Math.min(profile.queueCount, session.queues.length);
    const ringSizes = session.queues.slice(0, queueCount).map((queue) => queue.size);
    const entryCount = ringSizes.reduce((sum, size) => sum + size, 0);
    this.#session = session;
    this.#profile = profile;
    this.#limits = transferLimits(profile, session.features, Math.min(...ringSizes), options.requestSizeMax);
    this.#engine = new RequestEngine({
      session,
      aio,
      queueCount,
      queueDepth: Math.min(options.queueDepth ?? entryCount, entryCount),
      segmentSizeMax: this.#limits.segmentSizeMax,
      requestTimeoutMs: options.timeoutMs,
      statusMax: hasFeature(session.features, VIRTIO_BLK_F_ZONED)
        ? VIRTIO_BLK_S_ZONE_ACTIVE_RESOURCE
        : VIRTIO_BLK_S_UNSUPP,
      onInternal: (slot, completion) => this.#jobs.ended(slot, completion),
      onBatchEnd: () => this.#jobs.pump(),
    });
    const bounceSize = Math.min(options.bounceSize, this.#limits.transferSizeMax);
    this.#jobs = new JobQueue(this.#engine, { dma, aio, bounceSize, bounceCount });
    this.zones =
      profile.zoned &&
      new DriverZones({
        profile: profile.zoned,
        jobs: this.#jobs,
        capacitySectors: () => this.capacitySectors,
        requireWritable: (what) => this.#requireWritable(what),
        transferSizeMax: this.#limits.transferSizeMax,
      });
    this.readOnly = profile.readOnly;
    this.blockSize = profile.blockSize;
    this.features = session.features;
    this.memory = dma.memory;
    followDiskProfile(session, (now) => this.#takeProfile(now));
  }

  get capacitySectors(): number {
    return this.#profile.capacitySectors;
  }
  get geometry(): BlkGeometry | undefined {
    return this.#profile.geometry;
  }
  get topology(): BlkTopology | undefined {
    return this.#profile.topology;
  }
  get isWriteThrough(): boolean {
    return this.#profile.isWriteThrough;
  }
  get queueStatistics(): readonly BlkQueueStatistics[] {
    return this.#engine.queueStatistics;
  }
  get appendSector(): number {
    return this.#engine.appendSector;
  }
  get transferSizeMax(): number {
    return this.#limits.transferSizeMax;
  }
  get queueDepth(): number {
    return this.#engine.capacity;
  }
  get inFlightCount(): number {
    return this.#engine.inFlightCount;
  }
  get failure(): string | undefined {
    return this.#engine.failure;
  }

  get statistics(): BlkDriverStatistics {
    const doorbells = { kicks: 0, kicksSuppressed: 0, calls: 0, polls: 0 };
    for (const queue of this.#session.statistics) {
      doorbells.kicks += queue.kicks;
      doorbells.kicksSuppressed += queue.kicksSuppressed;
      doorbells.calls += queue.calls;
      doorbells.polls += queue.polls;
    }
    return { ...this.#engine.statistics, ...doorbells };
  }

  async read(sector: number, target: Uint8Array): Promise<void> {
    const what = `read of ${target.length} bytes at sector ${sector}`;
    this.#requireInside(what, sector, requireSectors(target.length));
    if (target.length > 0) await this.#jobs.transfer(what, VIRTIO_BLK_T_IN, sector, target);
  }

  async write(sector: number, source: Uint8Array): Promise<void> {
    const what = `write of ${source.length} bytes at sector ${sector}`;
    this.#requireWritable(what);
    this.#requireInside(what, sector, requireSectors(source.length));
    if (source.length === 0) return;
    await this.#jobs.transfer(what, VIRTIO_BLK_T_OUT, sector, source, this.#queueFor(sector));
  }

  async flush(): Promise<void> {
    if (hasFeature(this.features, VIRTIO_BLK_F_FLUSH))
      await this.#jobs.command('flush', VIRTIO_BLK_T_FLUSH, 0);
  }

  async discard(sector: number, count: number): Promise<void> {
    await this.#ranges('discard', VIRTIO_BLK_T_DISCARD, sector, count, this.#profile.discard, 0);
  }

  async writeZeroes(
    sector: number,
    count: number,
    { unmap = true }: { readonly unmap?: boolean } = {},
  ): Promise<void> {
    const flags = unmap ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0;
    const { writeZeroes } = this.#profile;
    await this.#ranges('write zeroes', VIRTIO_BLK_T_WRITE_ZEROES, sector, count, writeZeroes, flags);
  }

  async secureErase(sector: number, count: number): Promise<void> {
    const { secureErase } = this.#profile;
    await this.#ranges('secure erase', VIRTIO_BLK_T_SECURE_ERASE, sector, count, secureErase, 0);
  }

  async getLifetime(): Promise<BlkLifetime> {
    if (!hasFeature(this.features, VIRTIO_BLK_F_LIFETIME)) {
      throw new BlkError('UNSUPP', 'get lifetime: the device does not offer it');
    }
    const bytes = new Uint8Array(VIRTIO_BLK_LIFETIME.size);
    await this.#jobs.transfer('get lifetime', VIRTIO_BLK_T_GET_LIFETIME, 0, bytes);
    const lifetime = VIRTIO_BLK_LIFETIME.read(new DataView(bytes.buffer), 0);
    const { pre_eol_info: preEolInfo } = lifetime;
    const { device_lifetime_est_typ_a: typeA, device_lifetime_est_typ_b: typeB } = lifetime;
    const isReserved = Math.max(typeA, typeB) > VIRTIO_BLK_LIFETIME_EST_EXCEEDED;
    if (isReserved || preEolInfo > VIRTIO_BLK_PRE_EOL_INFO_URGENT) {
      throw new BlkError('EPROTO', `get lifetime: reserved values ${preEolInfo}, ${typeA}, ${typeB}`);
    }
    return { preEolInfo, typeA, typeB };
  }

  async setWriteback(writeback: boolean): Promise<boolean> {
    if (!hasFeature(this.features, VIRTIO_BLK_F_CONFIG_WCE)) {
      throw new BlkError('UNSUPP', 'cache mode: the device cannot switch it');
    }
    const { offset } = VIRTIO_BLK_CONFIG;
    await this.#session.writeConfig(offset.writeback, Uint8Array.of(writeback ? 1 : 0));
    this.#takeProfile(await readDiskProfile(this.#session));
    return !this.isWriteThrough;
  }

  onCapacityChange(handler: ((capacitySectors: number) => void) | undefined): void {
    this.#onCapacityChange = handler;
  }

  async resetQueue(queue: number, size?: number): Promise<void> {
    await this.#engine.resetQueue(queue, size);
  }

  async getId(): Promise<string> {
    const id = new Uint8Array(VIRTIO_BLK_ID_BYTES);
    await this.#jobs.transfer('get id', VIRTIO_BLK_T_GET_ID, 0, id);
    const end = id.indexOf(0);
    return String.fromCharCode(...id.subarray(0, end < 0 ? id.length : end));
  }

  allocateBuffer(size: number): number {
    const { failure } = this;
    if (failure !== undefined) throw new BlkError('ENODEV', failure);
    const offset = this.#session.link.dma.allocate(size);
    this.#buffers.set(offset, size);
    return offset;
  }

  freeBuffer(offset: number): void {
    const size = this.#buffers.get(offset);
    if (size === undefined) throw new RangeError(`no buffer at offset ${offset}`);
    // The device has what was given up until `close` has reset it, which frees all.
    if (this.failure !== undefined) return;
    this.#buffers.delete(offset);
    this.#session.link.dma.free(offset, size);
  }

  onCompletion(handler: ((token: number, completion: number) => void) | undefined): void {
    this.#engine.onCompletion(handler);
  }

  submitRead(
    sector: number,
    bufferOffset: number,
    size: number,
    token: number,
    queue: number = ANY_QUEUE,
  ): number {
    this.#checkTransfer(sector, bufferOffset, size, token, queue);
    return Math.min(this.#engine.submit(VIRTIO_BLK_T_IN, sector, bufferOffset, size, token, false, queue), 0);
  }

  submitWrite(
    sector: number,
    bufferOffset: number,
    size: number,
    token: number,
    queue: number = this.#queueFor(sector),
  ): number {
    if (this.readOnly) this.#requireWritable('write');
    this.#checkTransfer(sector, bufferOffset, size, token, queue);
    return Math.min(
      this.#engine.submit(VIRTIO_BLK_T_OUT, sector, bufferOffset, size, token, false, queue),
      0,
    );
  }

  submitAppend(sector: number, bufferOffset: number, size: number, token: number): number {
    if (this.readOnly) this.#requireWritable('append');
    const { zones } = this;
    if (zones === undefined || zones.maxAppendSectors === 0)
      throw new BlkError('UNSUPP', 'the disk has no appends');
    this.#checkTransfer(sector, bufferOffset, size, token, ANY_QUEUE);
    if (size > zones.maxAppendSectors * VIRTIO_BLK_SECTOR_SIZE || size % zones.writeGranularity !== 0) {
      throw new RangeError(`size ${size} is not what the disk takes in one append`);
    }
    const type = VIRTIO_BLK_T_ZONE_APPEND;
    return Math.min(this.#engine.submit(type, sector, bufferOffset, size, token, false, ANY_QUEUE), 0);
  }

  submitFlush(token: number, queue: number = ANY_QUEUE): number {
    if (!hasFeature(this.features, VIRTIO_BLK_F_FLUSH))
      throw new BlkError('UNSUPP', 'the device has no flush');
    requireToken(token);
    this.#requireQueue(queue);
    return Math.min(this.#engine.submit(VIRTIO_BLK_T_FLUSH, 0, 0, 0, token, false, queue), 0);
  }

  kick(): void {
    this.#engine.kick();
  }

  poll(): boolean {
    return this.#session.poll();
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    this.#engine.fail('driver closed');
    this.#jobs.stop();
    await this.#session.stop();
    this.#engine.release();
    this.#jobs.release();
    for (const [offset, size] of this.#buffers) this.#session.link.dma.free(offset, size);
    this.#buffers.clear();
  }

  async #ranges(
    name: string,
    type: number,
    sector: number,
    count: number,
    limit: RangeLimit,
    flags: number,
  ): Promise<void> {
    const what = `${name} of ${count} sectors at sector ${sector}`;
    this.#requireWritable(what);
    if (limit.sectorsMax === 0) throw new BlkError('UNSUPP', `${what}: the device does not offer it`);
    this.#requireInside(what, sector, count);
    if (count > 0) await this.#jobs.ranges(what, type, sector, count, limit, flags);
  }

  /** Writes to a sequential zone must arrive in order (§5.2.6), which queues promise only each by itself. */
  #queueFor(sector: number): number {
    if (this.zones === undefined) return ANY_QUEUE;
    return Math.floor(sector / this.zones.zoneSectors) % this.#engine.queueCount;
  }

  #requireQueue(queue: number): void {
    if (queue === ANY_QUEUE || (queue >= 0 && queue < this.#engine.queueCount && Number.isInteger(queue)))
      return;
    throw new RangeError(`queue ${queue} is not one of the ${this.#engine.queueCount} in use`);
  }

  #requireWritable(what: string): void {
    if (this.readOnly) throw new BlkError('EROFS', `${what}: the disk is read-only`);
  }

  #requireInside(what: string, sector: number, count: number): void {
    if (!this.#isInside(sector, count)) {
      throw new BlkError('ERANGE', `${what} is not inside the disk's ${this.capacitySectors} sectors`);
    }
  }

  #isInside(sector: number, count: number): boolean {
    if (!Number.isInteger(sector) || !Number.isInteger(count) || sector < 0 || count < 0) return false;
    return sector + count <= this.capacitySectors;
  }

  #takeProfile(profile: DiskProfile): void {
    const before = this.capacitySectors;
    this.#profile = profile;
    if (this.capacitySectors !== before) this.#onCapacityChange?.(this.capacitySectors);
  }

  #checkTransfer(sector: number, bufferOffset: number, size: number, token: number, queue: number): void {
    requireToken(token);
    this.#requireQueue(queue);
    if (size === 0 || size > this.#limits.transferSizeMax) {
      throw new RangeError(`size ${size} is not from 1 to ${this.#limits.transferSizeMax} bytes`);
    }
    if (!this.#isInside(sector, requireSectors(size))) {
      throw new RangeError(
        `sector ${sector} and size ${size} are not inside ${this.capacitySectors} sectors`,
      );
    }
    if (!(bufferOffset >= 0 && bufferOffset + size <= this.memory.size)) {
      throw new RangeError(`buffer offset ${bufferOffset} and size ${size} are not inside the memory`);
    }
  }
}

function requireSectors(size: number): number {
  const count = size / VIRTIO_BLK_SECTOR_SIZE;
  if (!Number.isInteger(count)) throw new RangeError(`${size} bytes are not a whole number of sectors`);
  return count;
}

function requireToken(token: number): void {
  if ((token & 0x7fff_ffff) !== token) throw new RangeError(`token ${token} is not from 0 to 2^31 - 1`);
}
