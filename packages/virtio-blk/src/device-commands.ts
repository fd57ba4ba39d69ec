import type { FeatureBits } from '@virtlab/abi/brands';
import { hasFeature } from '@virtlab/abi/virtio';
import {
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_LIFETIME,
  VIRTIO_BLK_F_SECURE_ERASE,
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_SIZE_MAX,
  VIRTIO_BLK_F_WRITE_ZEROES,
  VIRTIO_BLK_F_ZONED,
  VIRTIO_BLK_LIFETIME,
  VIRTIO_BLK_OUTHDR,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_SECTOR_SIZE,
  VIRTIO_BLK_STATUS_SIZE,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_GET_LIFETIME,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_SECURE_ERASE,
  VIRTIO_BLK_T_WRITE_ZEROES,
  VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
} from '@virtlab/abi/virtio-blk';
import type { DescriptorChain } from '@virtlab/vring';
import { BACKEND_PENDING, type BlockBackend } from './backend.ts';
import type { BlkDeviceProfile } from './device-options.ts';
import { RangeList } from './device-ranges.ts';
import type { DeviceRequests } from './device-requests.ts';
import type { BlkCounters } from './device-statistics.ts';
import type { DeviceTransfers } from './device-transfers.ts';
import { ZoneCommands, isZoneType } from './device-zones.ts';

// V8 folds a module's own constants into optimized code, but loads imported ones from their cells each time.
const HEADER_SIZE = VIRTIO_BLK_OUTHDR.size;
const STATUS_SIZE = VIRTIO_BLK_STATUS_SIZE;
const SECTOR_SIZE = VIRTIO_BLK_SECTOR_SIZE;

/** Header and status, which are descriptors of their own in the layout that everybody uses. */
const FRAMING_COUNT = 2;

/**
 * What each type of request means (§5.2.6). Everything is checked before anything is done; operations of the backend are
 * begun under the request's slot and counted in its `pendingCount`.
 */
export class DeviceCommands {
  readonly #backend: BlockBackend;
  readonly #profile: BlkDeviceProfile;
  readonly #requests: DeviceRequests;
  readonly #transfers: DeviceTransfers;
  readonly #counters: readonly BlkCounters[];
  readonly #ranges: RangeList;
  readonly #zones: ZoneCommands | undefined;
  #mayDiscard = false;
  #mayWriteZeroes = false;
  #mayErase = false;
  #hasLifetime = false;
  #isZoned = false;
  /** Limits that the driver has accepted to keep. */
  #segmentCountMax = Number.POSITIVE_INFINITY;
  #segmentSizeMax = Number.POSITIVE_INFINITY;

  constructor(
    backend: BlockBackend,
    profile: BlkDeviceProfile,
    requests: DeviceRequests,
    transfers: DeviceTransfers,
    counters: readonly BlkCounters[],
  ) {
    this.#backend = backend;
    this.#profile = profile;
    this.#requests = requests;
    this.#transfers = transfers;
    this.#counters = counters;
    this.#ranges = new RangeList(profile.rangeCountMax);
    this.#zones =
      backend.zones === undefined
        ? undefined
        : new ZoneCommands(backend.zones, backend.readOnly, requests, transfers);
  }

  negotiated(features: FeatureBits): void {
    const { segMax, sizeMax } = this.#profile;
    this.#mayDiscard = hasFeature(features, VIRTIO_BLK_F_DISCARD);
    this.#mayWriteZeroes = hasFeature(features, VIRTIO_BLK_F_WRITE_ZEROES);
    this.#mayErase = hasFeature(features, VIRTIO_BLK_F_SECURE_ERASE);
    this.#hasLifetime = hasFeature(features, VIRTIO_BLK_F_LIFETIME);
    this.#isZoned = hasFeature(features, VIRTIO_BLK_F_ZONED);
    this.#backend.zones?.setAware(this.#isZoned);
    this.#segmentCountMax = hasFeature(features, VIRTIO_BLK_F_SEG_MAX) ? segMax : Number.POSITIVE_INFINITY;
    this.#segmentSizeMax =
      sizeMax !== undefined && hasFeature(features, VIRTIO_BLK_F_SIZE_MAX)
        ? sizeMax
        : Number.POSITIVE_INFINITY;
  }

  /** OK if what the request needs was begun (some of it may be pending already), else its final status. */
  start(slot: number, chain: DescriptorChain, type: number, sector: number): number {
    const status = this.#start(slot, chain, type, sector);
    // A driver that knows of no zones knows none of their statuses.
    return status > VIRTIO_BLK_S_UNSUPP && !this.#isZoned ? VIRTIO_BLK_S_IOERR : status;
  }

  #start(slot: number, chain: DescriptorChain, type: number, sector: number): number {
    // Only transfers may wait for each other; everything else sees the backend in the order of the ring.
    if (type !== VIRTIO_BLK_T_IN && type !== VIRTIO_BLK_T_OUT) this.#transfers.submit();
    switch (type) {
      case VIRTIO_BLK_T_IN:
        return this.#startRead(slot, chain, sector);
      case VIRTIO_BLK_T_OUT:
        return this.#startWrite(slot, chain, sector);
      case VIRTIO_BLK_T_FLUSH:
        return this.#startFlush(slot, chain, sector);
      case VIRTIO_BLK_T_GET_ID:
        return this.#giveId(slot, chain);
      case VIRTIO_BLK_T_GET_LIFETIME:
        return this.#giveLifetime(slot, chain);
      case VIRTIO_BLK_T_DISCARD:
      case VIRTIO_BLK_T_WRITE_ZEROES:
      case VIRTIO_BLK_T_SECURE_ERASE:
        return this.#startRanges(slot, chain, type);
      default:
        if (!this.#isZoned || this.#zones === undefined || !isZoneType(type)) return VIRTIO_BLK_S_UNSUPP;
        return this.#zones.start(slot, chain, type, sector);
    }
  }

  /** Makes durable what had ended; counted in the slot. OK, or the status that ends it. */
  flush(slot: number): number {
    return this.#begun(slot, this.#backend.flush(slot));
  }

  #begun(slot: number, status: number): number {
    if (status !== BACKEND_PENDING) return status;
    this.#requests.pendingCount[slot]! += 1;
    return VIRTIO_BLK_S_OK;
  }

  #countersOf(slot: number): BlkCounters {
    return this.#counters[this.#requests.queueIndex[slot]!]!;
  }

  /** Whether a read of `size` bytes is one that can be carried out. */
  admitsRead(chain: DescriptorChain, sector: number, size: number): boolean {
    return (
      chain.readableSize === HEADER_SIZE &&
      this.#isInside(sector, size) &&
      this.#keepsLimits(chain, chain.readableCount, chain.segments.count)
    );
  }

  /** The same of a write. */
  admitsWrite(chain: DescriptorChain, sector: number, size: number): boolean {
    return (
      !this.#backend.readOnly &&
      chain.writableSize === STATUS_SIZE &&
      this.#isInside(sector, size) &&
      this.#keepsLimits(chain, 0, chain.readableCount)
    );
  }

  #startRead(slot: number, chain: DescriptorChain, sector: number): number {
    const size = chain.writableSize - STATUS_SIZE;
    this.#countersOf(slot).reads += 1;
    if (!this.admitsRead(chain, sector, size)) return VIRTIO_BLK_S_IOERR;
    this.#requests.writtenSize[slot] = size;
    if (this.#zones !== undefined) return this.#zones.read(slot, chain, sector, size);
    return this.#transfers.start(slot, false, sector, size);
  }

  #startWrite(slot: number, chain: DescriptorChain, sector: number): number {
    const size = chain.readableSize - HEADER_SIZE;
    this.#countersOf(slot).writes += 1;
    if (!this.admitsWrite(chain, sector, size)) return VIRTIO_BLK_S_IOERR;
    if (this.#zones !== undefined) return this.#zones.write(slot, sector, size);
    return this.#transfers.start(slot, true, sector, size);
  }

  /** §5.2.6.1: a flush has sector 0 and no data. */
  #startFlush(slot: number, chain: DescriptorChain, sector: number): number {
    this.#countersOf(slot).flushes += 1;
    const isBare =
      chain.readableSize === VIRTIO_BLK_OUTHDR.size && chain.writableSize === VIRTIO_BLK_STATUS_SIZE;
    return isBare && sector === 0 ? this.flush(slot) : VIRTIO_BLK_S_IOERR;
  }

  #giveId(slot: number, chain: DescriptorChain): number {
    const { id } = this.#profile;
    if (chain.readableSize !== VIRTIO_BLK_OUTHDR.size) return VIRTIO_BLK_S_IOERR;
    const size = Math.min(id.length, chain.writableSize - VIRTIO_BLK_STATUS_SIZE);
    this.#requests.writtenSize[slot] = size;
    return chain.write(0, id.subarray(0, size)) ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR;
  }

  /** A part of the structure would say something else than the whole: too short a buffer gets nothing. */
  #giveLifetime(slot: number, chain: DescriptorChain): number {
    const lifetime = this.#hasLifetime ? this.#backend.lifetime?.() : undefined;
    if (lifetime === undefined) return VIRTIO_BLK_S_UNSUPP;
    const { size, offset } = VIRTIO_BLK_LIFETIME;
    const dataSize = chain.writableSize - VIRTIO_BLK_STATUS_SIZE;
    if (chain.readableSize !== VIRTIO_BLK_OUTHDR.size || dataSize < size) return VIRTIO_BLK_S_IOERR;
    chain.writeU16(offset.pre_eol_info, lifetime.preEolInfo);
    chain.writeU16(offset.device_lifetime_est_typ_a, lifetime.typeA);
    chain.writeU16(offset.device_lifetime_est_typ_b, lifetime.typeB);
    this.#requests.writtenSize[slot] = size;
    return VIRTIO_BLK_S_OK;
  }

  #startRanges(slot: number, chain: DescriptorChain, type: number): number {
    const backend = this.#backend;
    if (backend.readOnly) return VIRTIO_BLK_S_IOERR;
    if (!this.#mayRange(type)) return VIRTIO_BLK_S_UNSUPP;
    if (chain.writableSize !== VIRTIO_BLK_STATUS_SIZE) return VIRTIO_BLK_S_IOERR;
    const ranges = this.#ranges;
    const known = type === VIRTIO_BLK_T_WRITE_ZEROES ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0;
    const refused = ranges.load(chain, known, this.#rangeSectorsMax(type), backend.capacitySectors);
    if (refused !== VIRTIO_BLK_S_OK) return refused;
    if (type === VIRTIO_BLK_T_SECURE_ERASE && !this.#isErasable(ranges)) return VIRTIO_BLK_S_IOERR;
    for (let index = 0; index < ranges.count; index += 1) {
      if (ranges.sectorCount[index] === 0) continue;
      const status = this.#begun(slot, this.#startRange(slot, type, index));
      if (status !== VIRTIO_BLK_S_OK) return status;
    }
    return VIRTIO_BLK_S_OK;
  }

  #mayRange(type: number): boolean {
    if (type === VIRTIO_BLK_T_DISCARD) return this.#mayDiscard;
    if (type === VIRTIO_BLK_T_WRITE_ZEROES) return this.#mayWriteZeroes;
    return this.#mayErase && this.#backend.secureErase !== undefined;
  }

  #rangeSectorsMax(type: number): number {
    const { discardSectorsMax, writeZeroesSectorsMax, secureEraseSectorsMax } = this.#profile;
    if (type === VIRTIO_BLK_T_DISCARD) return discardSectorsMax;
    return type === VIRTIO_BLK_T_WRITE_ZEROES ? writeZeroesSectorsMax : secureEraseSectorsMax;
  }

  #startRange(slot: number, type: number, index: number): number {
    const backend = this.#backend;
    const sector = this.#ranges.sector[index]!;
    const sectorCount = this.#ranges.sectorCount[index]!;
    const position = sector * VIRTIO_BLK_SECTOR_SIZE;
    const size = sectorCount * VIRTIO_BLK_SECTOR_SIZE;
    if (type === VIRTIO_BLK_T_DISCARD) return backend.discard(position, size, slot);
    if (type === VIRTIO_BLK_T_SECURE_ERASE) {
      const status = this.#zones?.erase(sector, sectorCount) ?? VIRTIO_BLK_S_OK;
      return status === VIRTIO_BLK_S_OK ? backend.secureErase!(position, size, slot) : status;
    }
    const status = this.#zones?.zero(sector, sectorCount) ?? VIRTIO_BLK_S_OK;
    if (status !== VIRTIO_BLK_S_OK) return status;
    const unmap = (this.#ranges.flags[index]! & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) !== 0;
    return backend.writeZeroes(position, size, unmap, slot);
  }

  /** §5.2.6.2: on a zoned disk whole zones are erased. Elsewhere the alignment is advice. */
  #isErasable(ranges: RangeList): boolean {
    const zones = this.#backend.zones;
    if (zones === undefined) return true;
    const { zoneSectors } = zones.layout;
    for (let index = 0; index < ranges.count; index += 1) {
      if (ranges.sector[index]! % zoneSectors !== 0) return false;
      if (ranges.sectorCount[index]! % zoneSectors !== 0) return false;
    }
    return true;
  }

  #isInside(sector: number, size: number): boolean {
    if (size % SECTOR_SIZE !== 0) return false;
    return sector + size / SECTOR_SIZE <= this.#backend.capacitySectors;
  }

  /**
   * `seg_max` and `size_max`, where they were negotiated. Refuses what certainly breaks them: a descriptor may hold header and
   * data, and may be mapped in several segments, so what cannot be told from a legal request is served.
   */
  #keepsLimits(chain: DescriptorChain, from: number, to: number): boolean {
    if (chain.descriptorCount - FRAMING_COUNT > this.#segmentCountMax) return false;
    if (this.#segmentSizeMax === Number.POSITIVE_INFINITY) return true;
    const { size } = chain.segments;
    for (let index = from; index < to; index += 1) {
      if (size[index]! > this.#segmentSizeMax + HEADER_SIZE) return false;
    }
    return true;
  }
}
