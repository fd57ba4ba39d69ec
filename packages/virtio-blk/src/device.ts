import type { FeatureBits } from '@virtlab/abi/brands';
import { VIRTIO_ID_BLOCK } from '@virtlab/abi/virtio';
import {
  VIRTIO_BLK_OUTHDR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_STATUS_SIZE,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
  VIRTIO_BLK_T_ZONE_APPEND,
} from '@virtlab/abi/virtio-blk';
import type { BottomHalf } from '@virtlab/aio';
import type { DeviceActivation, VirtioDevice } from '@virtlab/virtio';
import type { DescriptorChain, DeviceQueue } from '@virtlab/vring';
import type { BlockBackend } from './backend.ts';
import { DeviceCommands } from './device-commands.ts';
import { type BlkDeviceOptions, type BlkDeviceProfile, resolveDeviceOptions } from './device-options.ts';
import { DIRECT_DONE, DIRECT_NOT, DirectTransfers } from './device-direct.ts';
import { DeviceRequests } from './device-requests.ts';
import { type BlkCounters, type BlkDeviceStatistics, createCounters, sumOf } from './device-statistics.ts';
import { DeviceTransfers } from './device-transfers.ts';
import { finishAppend } from './device-zones.ts';
import { sectorFromWords } from './protocol.ts';

export interface BlkDevice extends VirtioDevice {
  /** Over all queues. */
  readonly statistics: BlkDeviceStatistics;
  /** By queue. */
  readonly queueStatistics: readonly BlkDeviceStatistics[];
  /** Requests that the backend has not ended. */
  readonly inFlightCount: number;
  /** Writes are flushed before they complete, as the driver has chosen by features or by `writeback` (§5.2.6.2). */
  readonly isWriteThrough: boolean;
}

/**
 * A virtio block device (VIRTIO §5.2) over a storage backend. Takes requests however they are cut into descriptors
 * (§2.7.4), completes them in the order in which the backend does, and calls once per batch. All queues share the
 * backend: a flush on any of them covers what completed on all.
 *
 * A driver that breaks the framing (no room for header or status) makes the device need a reset; one that asks for
 * what cannot be done gets a status. Nothing of a refused request is carried out.
 *
 * @throws RangeError naming the option that is out of range
 */
export function createBlkDevice(options: BlkDeviceOptions): BlkDevice {
  return new BackedBlkDevice(options.backend, resolveDeviceOptions(options));
}

// V8 folds a module's own constants into optimized code, but loads imported ones from their cells each time.
const HEADER_SIZE = VIRTIO_BLK_OUTHDR.size;
const STATUS_SIZE = VIRTIO_BLK_STATUS_SIZE;
const TYPE_AT = VIRTIO_BLK_OUTHDR.offset.type;
const SECTOR_AT = VIRTIO_BLK_OUTHDR.offset.sector;

class BackedBlkDevice implements BlkDevice {
  readonly deviceType: number = VIRTIO_ID_BLOCK;
  readonly features: FeatureBits;
  readonly queueSizesMax: readonly number[];
  readonly configSize: number;
  readonly queueStatistics: readonly BlkCounters[];
  readonly #backend: BlockBackend;
  readonly #profile: BlkDeviceProfile;
  readonly #requests: DeviceRequests;
  readonly #transfers: DeviceTransfers;
  readonly #commands: DeviceCommands;
  readonly #direct: DirectTransfers;
  /** Queues with used entries that the driver has not been told of. */
  readonly #dirty: Uint8Array;
  /** Queues that are being reset alone and wait for the backend. */
  readonly #queueDrained: (PromiseWithResolvers<void> | undefined)[];
  #activation: DeviceActivation | undefined;
  #completeLater: BottomHalf | undefined;
  #drained: PromiseWithResolvers<void> | undefined;
  #isProcessing = false;

  constructor(backend: BlockBackend, profile: BlkDeviceProfile) {
    const { queueSizesMax, mergeCountMax, mergeSizeMax } = profile;
    this.#backend = backend;
    this.#profile = profile;
    this.features = profile.features;
    this.queueSizesMax = queueSizesMax;
    this.configSize = profile.config.size;
    const requests = new DeviceRequests(
      queueSizesMax.reduce((sum, size) => sum + size, 0),
      queueSizesMax.length,
    );
    const counters = queueSizesMax.map(createCounters);
    this.queueStatistics = counters;
    this.#requests = requests;
    this.#transfers = new DeviceTransfers({
      backend,
      requests,
      counters,
      mergeCountMax,
      mergeSizeMax,
      onEnd: (slot, status) => this.#operationEnded(slot, status),
    });
    this.#commands = new DeviceCommands(backend, profile, requests, this.#transfers, counters);
    this.#direct = new DirectTransfers(backend, requests, this.#commands, counters);
    this.#dirty = new Uint8Array(queueSizesMax.length);
    this.#queueDrained = queueSizesMax.map(() => undefined);
    backend.onCapacityChange?.(() => this.#capacityChanged());
  }

  get statistics(): BlkDeviceStatistics {
    return sumOf(this.queueStatistics);
  }
  get inFlightCount(): number {
    return this.#requests.heldCount;
  }
  get isWriteThrough(): boolean {
    return this.#profile.config.isWriteThrough;
  }

  readConfig(offset: number, out: Uint8Array): void {
    this.#profile.config.read(offset, out);
  }
  writeConfig(offset: number, bytes: Uint8Array): void {
    this.#profile.config.write(offset, bytes);
  }

  /** At FEATURES_OK: what configuration space says depends on it from then on (§5.2.5.2). */
  refuseFeatures(features: FeatureBits): string | undefined {
    return this.#profile.config.accept(features);
  }

  activate(activation: DeviceActivation): void {
    const { config } = this.#profile;
    if (config.accepted !== activation.features) config.accept(activation.features);
    this.#activation = activation;
    this.#commands.negotiated(activation.features);
    this.#completeLater = activation.aio.createBottomHalf(() => this.#endBatch());
    this.#backend.onComplete((token, status) => this.#transfers.ended(token, status));
  }

  processQueue(queueIndex: number): void {
    const activation = this.#activation;
    const queue = activation?.queues[queueIndex];
    if (activation === undefined || queue === undefined) return;
    const { publishPeriod } = this.#profile;
    this.#isProcessing = true;
    // A driver that refills as fast as we drain must not keep the loop: the host looks again after this many.
    for (let taken = 1; taken <= queue.size; taken += 1) {
      const chain = queue.pop();
      if (chain === undefined || !this.#accept(activation, queueIndex, queue, chain)) break;
      if (taken % publishPeriod === 0) queue.publish();
    }
    this.#transfers.submit();
    this.#isProcessing = false;
    this.#backend.submit();
    if (this.#dirty[queueIndex] === 1) {
      this.#dirty[queueIndex] = 0;
      activation.complete(queueIndex);
    }
  }

  resetQueue(queueIndex: number): void | Promise<void> {
    this.#dirty[queueIndex] = 0;
    if (this.#requests.heldCountOf(queueIndex) === 0) return undefined;
    this.#requests.forget(queueIndex);
    const drained = Promise.withResolvers<void>();
    this.#queueDrained[queueIndex] = drained;
    // What is held back would otherwise wait for a batch that never ends.
    this.#backend.submit();
    return drained.promise;
  }

  reset(): void | Promise<void> {
    this.#activation = undefined;
    this.#completeLater?.[Symbol.dispose]();
    this.#completeLater = undefined;
    this.#dirty.fill(0);
    this.#profile.config.reset();
    if (this.#requests.heldCount === 0) {
      this.#backend.onComplete(undefined);
      return undefined;
    }
    this.#drained = Promise.withResolvers<void>();
    this.#backend.submit();
    return this.#drained.promise;
  }

  /** False when the framing is broken: the device is failing and must not touch the queue again. */
  #accept(
    activation: DeviceActivation,
    queueIndex: number,
    queue: DeviceQueue,
    chain: DescriptorChain,
  ): boolean {
    if (chain.readableSize < HEADER_SIZE || chain.writableSize < STATUS_SIZE) {
      activation.fail({ section: '5.2.6', message: framingMessage(queueIndex, chain) });
      return false;
    }
    const type = chain.readU32(TYPE_AT);
    const sector = sectorFromWords(chain.readU32(SECTOR_AT), chain.readU32(SECTOR_AT + 4));
    const done = this.#direct.serve(queueIndex, queue, chain, type, sector, this.isWriteThrough);
    if (done === DIRECT_DONE) this.#dirty[queueIndex] = 1;
    if (done !== DIRECT_NOT) return true;
    const slot = this.#requests.take(queueIndex, chain, type);
    const status = this.#commands.start(slot, chain, type, sector);
    this.#requests.note(slot, status);
    if (this.#requests.pendingCount[slot] === 0) this.#settle(slot);
    return true;
  }

  /** From the backend, or from transfers that ended at once. */
  #operationEnded(slot: number, status: number): void {
    const requests = this.#requests;
    requests.note(slot, status);
    requests.pendingCount[slot]! -= 1;
    if (requests.pendingCount[slot] === 0) this.#settle(slot);
  }

  /** All that the request began has ended: flush what must be stable (write-through), or finish it. */
  #settle(slot: number): void {
    const requests = this.#requests;
    const isOwed = requests.flushing[slot] === 0 && isChange(requests.type[slot]!) && this.isWriteThrough;
    if (isOwed && requests.status[slot] === VIRTIO_BLK_S_OK && this.#isWanted(slot)) {
      requests.flushing[slot] = 1;
      requests.note(slot, this.#commands.flush(slot));
      if (requests.pendingCount[slot] !== 0) {
        this.#endBatchLater();
        return;
      }
    }
    this.#finish(slot);
  }

  #isWanted(slot: number): boolean {
    return this.#activation !== undefined && this.#requests.isForgotten[slot] === 0;
  }

  /** Status byte, used entry; the driver is told at the end of the batch. After a reset only the slot is given back. */
  #finish(slot: number): void {
    const requests = this.#requests;
    const queueIndex = requests.queueIndex[slot]!;
    const queue = this.#isWanted(slot) ? this.#activation?.queues[queueIndex] : undefined;
    if (queue !== undefined) {
      const chain = requests.chain[slot]!;
      const status = requests.status[slot]!;
      const type = requests.type[slot]!;
      this.#count(this.queueStatistics[queueIndex]!, type, status, chain);
      const isOk = status === VIRTIO_BLK_S_OK;
      if (isOk && type === VIRTIO_BLK_T_ZONE_APPEND) finishAppend(chain, requests.appendSector[slot]!);
      const dataSize = chain.writableSize - VIRTIO_BLK_STATUS_SIZE;
      chain.writeU8(dataSize, status);
      // §2.7.8.2: the used length counts from the first writable byte, so it takes in the status only if no gap precedes it.
      const writtenSize = isOk ? requests.writtenSize[slot]! : 0;
      queue.push(chain, writtenSize === dataSize ? chain.writableSize : writtenSize);
      this.#dirty[queueIndex] = 1;
      this.#endBatchLater();
    }
    requests.give(slot);
    this.#noteDrained(queueIndex);
  }

  #noteDrained(queueIndex: number): void {
    const queueDrained = this.#queueDrained[queueIndex];
    if (queueDrained !== undefined && this.#requests.heldCountOf(queueIndex) === 0) {
      this.#queueDrained[queueIndex] = undefined;
      queueDrained.resolve();
    }
    if (this.#drained === undefined || this.#requests.heldCount > 0) return;
    this.#backend.onComplete(undefined);
    this.#drained.resolve();
    this.#drained = undefined;
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

  #capacityChanged(): void {
    this.#profile.config.setCapacity(this.#backend.capacitySectors);
    this.#activation?.configChanged();
  }

  #count(counters: BlkCounters, type: number, status: number, chain: DescriptorChain): void {
    if (status === VIRTIO_BLK_S_UNSUPP) counters.unsupported += 1;
    else if (status !== VIRTIO_BLK_S_OK) counters.failures += 1;
    else if (type === VIRTIO_BLK_T_IN) counters.readSize += chain.writableSize - VIRTIO_BLK_STATUS_SIZE;
    else if (type === VIRTIO_BLK_T_OUT || type === VIRTIO_BLK_T_ZONE_APPEND)
      counters.writtenSize += chain.readableSize - VIRTIO_BLK_OUTHDR.size;
  }
}

/** Apart, because a function with a text in it is too long for the engine to inline. */
function framingMessage(queueIndex: number, { head, readableSize, writableSize }: DescriptorChain): string {
  return (
    `virtio-blk request at head 0x${head.toString(16)} of queue ${queueIndex} has ` +
    `0x${readableSize.toString(16)} readable and 0x${writableSize.toString(16)} writable bytes: ` +
    'no room for header and status'
  );
}

/** Requests whose effect must be stable in write-through mode. */
function isChange(type: number): boolean {
  return type === VIRTIO_BLK_T_OUT || type === VIRTIO_BLK_T_WRITE_ZEROES || type === VIRTIO_BLK_T_ZONE_APPEND;
}
