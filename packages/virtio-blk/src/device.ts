import type { FeatureBits } from '@virtlab/abi/brands';
import { VIRTIO_ID_BLOCK, hasFeature } from '@virtlab/abi/virtio';
import {
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_WRITE_ZEROES,
  VIRTIO_BLK_OUTHDR,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_SECTOR_SIZE,
  VIRTIO_BLK_STATUS_SIZE,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_SECURE_ERASE,
  VIRTIO_BLK_T_WRITE_ZEROES,
  VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
} from '@virtlab/abi/virtio-blk';
import type { BottomHalf } from '@virtlab/aio';
import type { DeviceActivation, VirtioDevice } from '@virtlab/virtio';
import type { DescriptorChain } from '@virtlab/vring';
import { BACKEND_PENDING, type BlockBackend } from './backend.ts';
import { type BlkDeviceOptions, type BlkDeviceProfile, resolveDeviceOptions } from './device-options.ts';
import { RangeList } from './device-ranges.ts';
import { DeviceRequests } from './device-requests.ts';
import { BLK_CONFIG_SIZE, sectorFromWords } from './protocol.ts';

/** Counters since creation. */
export interface BlkDeviceStatistics {
  readonly reads: number;
  readonly writes: number;
  readonly flushes: number;
  /** Bytes of reads and writes that succeeded. */
  readonly readSize: number;
  readonly writtenSize: number;
  /** Requests that ended with IOERR and with UNSUPP. */
  readonly failures: number;
  readonly unsupported: number;
}

export interface BlkDevice extends VirtioDevice {
  readonly statistics: BlkDeviceStatistics;
  /** Requests that the backend has not ended. */
  readonly inFlightCount: number;
}

/** Used entries become visible at least this often within one long batch. */
const PUBLISH_PERIOD = 16;

/**
 * A virtio block device (VIRTIO §5.2) over a storage backend. Takes requests however they are cut into descriptors
 * (§2.7.4), completes them in the order in which the backend does, and calls once per batch.
 *
 * A driver that breaks the framing (no room for header or status) makes the device need a reset; one that asks for
 * what cannot be done gets a status. Nothing of a refused request is carried out.
 *
 * @throws RangeError naming the option that is out of range
 */
export function createBlkDevice(options: BlkDeviceOptions): BlkDevice {
  return new BackedBlkDevice(options.backend, resolveDeviceOptions(options));
}

class BackedBlkDevice implements BlkDevice {
  readonly deviceType: number = VIRTIO_ID_BLOCK;
  readonly features: FeatureBits;
  readonly queueSizesMax: readonly number[];
  readonly configSize: number = BLK_CONFIG_SIZE;
  readonly statistics = {
    reads: 0,
    writes: 0,
    flushes: 0,
    readSize: 0,
    writtenSize: 0,
    failures: 0,
    unsupported: 0,
  };
  readonly #backend: BlockBackend;
  readonly #profile: BlkDeviceProfile;
  readonly #requests: DeviceRequests;
  readonly #ranges: RangeList;
  /** Queues with used entries that the driver has not been told of. */
  readonly #dirty: Uint8Array;
  #activation: DeviceActivation | undefined;
  #completeLater: BottomHalf | undefined;
  #drained: PromiseWithResolvers<void> | undefined;
  #isProcessing = false;
  /** No FLUSH negotiated although offered: a write is stable when it completes (§5.2.6.2). */
  #isWriteThrough = false;
  #mayDiscard = false;
  #mayWriteZeroes = false;

  constructor(backend: BlockBackend, profile: BlkDeviceProfile) {
    this.#backend = backend;
    this.#profile = profile;
    this.features = profile.features;
    this.queueSizesMax = profile.queueSizesMax;
    this.#requests = new DeviceRequests(profile.queueSizesMax.reduce((sum, size) => sum + size, 0));
    this.#ranges = new RangeList(profile.rangeCountMax);
    this.#dirty = new Uint8Array(profile.queueSizesMax.length);
  }

  get inFlightCount(): number {
    return this.#requests.heldCount;
  }

  readConfig(offset: number, out: Uint8Array): void {
    const bytes = this.#profile.config.subarray(offset, offset + out.length);
    out.set(bytes);
    out.fill(0, bytes.length);
  }

  activate(activation: DeviceActivation): void {
    this.#activation = activation;
    this.#isWriteThrough = !hasFeature(activation.features, VIRTIO_BLK_F_FLUSH);
    this.#mayDiscard = hasFeature(activation.features, VIRTIO_BLK_F_DISCARD);
    this.#mayWriteZeroes = hasFeature(activation.features, VIRTIO_BLK_F_WRITE_ZEROES);
    this.#completeLater = activation.aio.createBottomHalf(() => this.#endBatch());
    this.#backend.onComplete((token, status) => this.#operationEnded(token, status));
  }

  processQueue(queueIndex: number): void {
    const activation = this.#activation;
    const queue = activation?.queues[queueIndex];
    if (activation === undefined || queue === undefined) return;
    this.#isProcessing = true;
    // A driver that refills as fast as we drain must not keep the loop: the host looks again after this many.
    for (let taken = 1; taken <= queue.size; taken += 1) {
      const chain = queue.pop();
      if (chain === undefined || !this.#accept(activation, queueIndex, chain)) break;
      if (taken % PUBLISH_PERIOD === 0) queue.publish();
    }
    this.#isProcessing = false;
    this.#backend.submit();
    if (this.#dirty[queueIndex] === 1) {
      this.#dirty[queueIndex] = 0;
      activation.complete(queueIndex);
    }
  }

  reset(): void | Promise<void> {
    this.#activation = undefined;
    this.#completeLater?.[Symbol.dispose]();
    this.#completeLater = undefined;
    this.#dirty.fill(0);
    if (this.#requests.heldCount === 0) {
      this.#backend.onComplete(undefined);
      return undefined;
    }
    this.#drained = Promise.withResolvers<void>();
    // What is held back would otherwise wait for a batch that never ends.
    this.#backend.submit();
    return this.#drained.promise;
  }

  /** False when the framing is broken: the device is failing and must not touch the queue again. */
  #accept(activation: DeviceActivation, queueIndex: number, chain: DescriptorChain): boolean {
    if (chain.readableSize < VIRTIO_BLK_OUTHDR.size || chain.writableSize < VIRTIO_BLK_STATUS_SIZE) {
      const message =
        `virtio-blk request at head 0x${chain.head.toString(16)} of queue ${queueIndex} has ` +
        `0x${chain.readableSize.toString(16)} readable and 0x${chain.writableSize.toString(16)} writable bytes: ` +
        'no room for header and status';
      activation.fail({ section: '5.2.6', message });
      return false;
    }
    const type = chain.readU32(VIRTIO_BLK_OUTHDR.offset.type);
    const low = chain.readU32(VIRTIO_BLK_OUTHDR.offset.sector);
    const high = chain.readU32(VIRTIO_BLK_OUTHDR.offset.sector + 4);
    const slot = this.#requests.take(queueIndex, chain, type);
    const status = this.#start(slot, chain, type, sectorFromWords(low, high));
    this.#requests.note(slot, status);
    if (this.#requests.pendingCount[slot] === 0) this.#settle(slot);
    return true;
  }

  /** OK if the operations that the request needs were begun (some may be pending already), else its final status. */
  #start(slot: number, chain: DescriptorChain, type: number, sector: number): number {
    switch (type) {
      case VIRTIO_BLK_T_IN:
        return this.#startRead(slot, chain, sector);
      case VIRTIO_BLK_T_OUT:
        return this.#startWrite(slot, chain, sector);
      case VIRTIO_BLK_T_FLUSH:
        return this.#startFlush(slot, chain, sector);
      case VIRTIO_BLK_T_GET_ID:
        return this.#giveId(slot, chain);
      case VIRTIO_BLK_T_DISCARD:
      case VIRTIO_BLK_T_WRITE_ZEROES:
        return this.#startRanges(slot, chain, type === VIRTIO_BLK_T_DISCARD);
      case VIRTIO_BLK_T_SECURE_ERASE:
        return this.#backend.readOnly ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_UNSUPP;
      default:
        return VIRTIO_BLK_S_UNSUPP;
    }
  }

  #startRead(slot: number, chain: DescriptorChain, sector: number): number {
    const size = chain.writableSize - VIRTIO_BLK_STATUS_SIZE;
    this.statistics.reads += 1;
    if (chain.readableSize !== VIRTIO_BLK_OUTHDR.size || !this.#isInside(sector, size))
      return VIRTIO_BLK_S_IOERR;
    this.#requests.writtenSize[slot] = size;
    const { segments, regions } = chain;
    let position = sector * VIRTIO_BLK_SECTOR_SIZE;
    let left = size;
    for (let index = chain.readableCount; left > 0; index += 1) {
      const count = Math.min(segments.size[index]!, left);
      const region = regions[segments.region[index]!]!;
      const status = this.#backend.read(region, segments.offset[index]!, count, position, slot);
      if (status === BACKEND_PENDING) this.#requests.pendingCount[slot]! += 1;
      else if (status !== VIRTIO_BLK_S_OK) return status;
      position += count;
      left -= count;
    }
    return VIRTIO_BLK_S_OK;
  }

  #startWrite(slot: number, chain: DescriptorChain, sector: number): number {
    const size = chain.readableSize - VIRTIO_BLK_OUTHDR.size;
    this.statistics.writes += 1;
    if (this.#backend.readOnly || chain.writableSize !== VIRTIO_BLK_STATUS_SIZE) return VIRTIO_BLK_S_IOERR;
    if (!this.#isInside(sector, size)) return VIRTIO_BLK_S_IOERR;
    const { segments, regions } = chain;
    let position = sector * VIRTIO_BLK_SECTOR_SIZE;
    let left = size;
    let skip = VIRTIO_BLK_OUTHDR.size;
    for (let index = 0; left > 0; index += 1) {
      const segmentSize = segments.size[index]!;
      if (skip >= segmentSize) {
        skip -= segmentSize;
        continue;
      }
      const count = Math.min(segmentSize - skip, left);
      const region = regions[segments.region[index]!]!;
      const status = this.#backend.write(region, segments.offset[index]! + skip, count, position, slot);
      if (status === BACKEND_PENDING) this.#requests.pendingCount[slot]! += 1;
      else if (status !== VIRTIO_BLK_S_OK) return status;
      position += count;
      left -= count;
      skip = 0;
    }
    return VIRTIO_BLK_S_OK;
  }

  /** §5.2.6.1: a flush has sector 0 and no data. */
  #startFlush(slot: number, chain: DescriptorChain, sector: number): number {
    this.statistics.flushes += 1;
    const isBare =
      chain.readableSize === VIRTIO_BLK_OUTHDR.size && chain.writableSize === VIRTIO_BLK_STATUS_SIZE;
    return isBare && sector === 0 ? this.#flush(slot) : VIRTIO_BLK_S_IOERR;
  }

  #flush(slot: number): number {
    const status = this.#backend.flush(slot);
    if (status !== BACKEND_PENDING) return status;
    this.#requests.pendingCount[slot]! += 1;
    return VIRTIO_BLK_S_OK;
  }

  #giveId(slot: number, chain: DescriptorChain): number {
    const { id } = this.#profile;
    if (chain.readableSize !== VIRTIO_BLK_OUTHDR.size) return VIRTIO_BLK_S_IOERR;
    const size = Math.min(id.length, chain.writableSize - VIRTIO_BLK_STATUS_SIZE);
    this.#requests.writtenSize[slot] = size;
    return chain.write(0, id.subarray(0, size)) ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR;
  }

  #startRanges(slot: number, chain: DescriptorChain, isDiscard: boolean): number {
    if (this.#backend.readOnly) return VIRTIO_BLK_S_IOERR;
    if (isDiscard ? !this.#mayDiscard : !this.#mayWriteZeroes) return VIRTIO_BLK_S_UNSUPP;
    if (chain.writableSize !== VIRTIO_BLK_STATUS_SIZE) return VIRTIO_BLK_S_IOERR;
    const ranges = this.#ranges;
    const { discardSectorsMax, writeZeroesSectorsMax } = this.#profile;
    const refused = ranges.load(
      chain,
      isDiscard ? 0 : VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
      isDiscard ? discardSectorsMax : writeZeroesSectorsMax,
      this.#backend.capacitySectors,
    );
    if (refused !== VIRTIO_BLK_S_OK) return refused;
    for (let index = 0; index < ranges.count; index += 1) {
      const position = ranges.sector[index]! * VIRTIO_BLK_SECTOR_SIZE;
      const size = ranges.sectorCount[index]! * VIRTIO_BLK_SECTOR_SIZE;
      if (size === 0) continue;
      const unmap = (ranges.flags[index]! & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) !== 0;
      const status = isDiscard
        ? this.#backend.discard(position, size, slot)
        : this.#backend.writeZeroes(position, size, unmap, slot);
      if (status === BACKEND_PENDING) this.#requests.pendingCount[slot]! += 1;
      else if (status !== VIRTIO_BLK_S_OK) return status;
    }
    return VIRTIO_BLK_S_OK;
  }

  #isInside(sector: number, size: number): boolean {
    if (size % VIRTIO_BLK_SECTOR_SIZE !== 0) return false;
    return sector + size / VIRTIO_BLK_SECTOR_SIZE <= this.#backend.capacitySectors;
  }

  /** From the backend, later than the call that began the operation. */
  #operationEnded(slot: number, status: number): void {
    const requests = this.#requests;
    requests.note(slot, status);
    requests.pendingCount[slot]! -= 1;
    if (requests.pendingCount[slot] !== 0) return;
    this.#settle(slot);
    if (this.#drained !== undefined && requests.heldCount === 0) {
      this.#backend.onComplete(undefined);
      this.#drained.resolve();
      this.#drained = undefined;
    }
  }

  /** All that the request began has ended: flush what must be stable (write-through), or finish it. */
  #settle(slot: number): void {
    const requests = this.#requests;
    const isChange =
      requests.type[slot] === VIRTIO_BLK_T_OUT || requests.type[slot] === VIRTIO_BLK_T_WRITE_ZEROES;
    const isOwed = isChange && this.#isWriteThrough && requests.flushing[slot] === 0;
    if (isOwed && requests.status[slot] === VIRTIO_BLK_S_OK && this.#activation !== undefined) {
      requests.flushing[slot] = 1;
      requests.note(slot, this.#flush(slot));
      if (requests.pendingCount[slot] !== 0) {
        this.#endBatchLater();
        return;
      }
    }
    this.#finish(slot);
  }

  /** Status byte, used entry; the driver is told at the end of the batch. After a reset only the slot is given back. */
  #finish(slot: number): void {
    const requests = this.#requests;
    const chain = requests.chain[slot]!;
    const queueIndex = requests.queueIndex[slot]!;
    const status = requests.status[slot]!;
    const queue = this.#activation?.queues[queueIndex];
    requests.give(slot);
    if (queue === undefined) return;
    this.#count(requests.type[slot]!, status, chain);
    const dataSize = chain.writableSize - VIRTIO_BLK_STATUS_SIZE;
    chain.writeU8(dataSize, status);
    // §2.7.8.2: the used length counts from the first writable byte, so it takes in the status only if no gap precedes it.
    const writtenSize = status === VIRTIO_BLK_S_OK ? requests.writtenSize[slot]! : 0;
    queue.push(chain, writtenSize === dataSize ? chain.writableSize : writtenSize);
    this.#dirty[queueIndex] = 1;
    this.#endBatchLater();
  }

  /** What the backend ends in one go is one batch, as a processQueue run is. */
  #endBatchLater(): void {
    if (!this.#isProcessing) this.#completeLater?.schedule();
  }

  #endBatch(): void {
    const activation = this.#activation;
    if (activation === undefined) return;
    this.#backend.submit();
    for (let index = 0; index < this.#dirty.length; index += 1) {
      if (this.#dirty[index] === 0) continue;
      this.#dirty[index] = 0;
      activation.complete(index);
    }
  }

  #count(type: number, status: number, chain: DescriptorChain): void {
    const { statistics } = this;
    if (status === VIRTIO_BLK_S_UNSUPP) statistics.unsupported += 1;
    else if (status !== VIRTIO_BLK_S_OK) statistics.failures += 1;
    else if (type === VIRTIO_BLK_T_IN) statistics.readSize += chain.writableSize - VIRTIO_BLK_STATUS_SIZE;
    else if (type === VIRTIO_BLK_T_OUT) statistics.writtenSize += chain.readableSize - VIRTIO_BLK_OUTHDR.size;
  }
}
