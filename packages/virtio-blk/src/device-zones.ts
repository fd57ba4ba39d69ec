import {
  VIRTIO_BLK_APPEND_SECTOR_SIZE,
  VIRTIO_BLK_OUTHDR,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_ZONE_INVALID_CMD,
  VIRTIO_BLK_S_ZONE_UNALIGNED_WP,
  VIRTIO_BLK_SECTOR_SIZE,
  VIRTIO_BLK_STATUS_SIZE,
  VIRTIO_BLK_T_ZONE_APPEND,
  VIRTIO_BLK_T_ZONE_CLOSE,
  VIRTIO_BLK_T_ZONE_FINISH,
  VIRTIO_BLK_T_ZONE_OPEN,
  VIRTIO_BLK_T_ZONE_REPORT,
  VIRTIO_BLK_T_ZONE_RESET,
  VIRTIO_BLK_T_ZONE_RESET_ALL,
  VIRTIO_BLK_ZONE_DESCRIPTOR,
  VIRTIO_BLK_ZONE_REPORT,
} from '@virtlab/abi/virtio-blk';
import type { DescriptorChain } from '@virtlab/vring';
import { BACKEND_PENDING } from './backend.ts';
import type { DeviceRequests } from './device-requests.ts';
import type { DeviceTransfers } from './device-transfers.ts';
import { sectorHigh, sectorLow } from './protocol.ts';
import { type BlockZones, zoneDescription } from './zone-contract.ts';

const ZONE_TYPES: ReadonlySet<number> = new Set([
  VIRTIO_BLK_T_ZONE_APPEND,
  VIRTIO_BLK_T_ZONE_REPORT,
  VIRTIO_BLK_T_ZONE_OPEN,
  VIRTIO_BLK_T_ZONE_CLOSE,
  VIRTIO_BLK_T_ZONE_FINISH,
  VIRTIO_BLK_T_ZONE_RESET,
  VIRTIO_BLK_T_ZONE_RESET_ALL,
]);

export function isZoneType(type: number): boolean {
  return ZONE_TYPES.has(type);
}

/** Requests of a zoned disk (§5.2.6), and what zones make of reads and writes. */
export class ZoneCommands {
  readonly #zones: BlockZones;
  readonly #readOnly: boolean;
  readonly #requests: DeviceRequests;
  readonly #transfers: DeviceTransfers;
  readonly #zone = zoneDescription();
  readonly #descriptor = new Uint8Array(VIRTIO_BLK_ZONE_DESCRIPTOR.size);
  readonly #words = new Uint32Array(this.#descriptor.buffer);
  readonly #zeroes = new Uint8Array(VIRTIO_BLK_ZONE_REPORT.size);

  constructor(zones: BlockZones, readOnly: boolean, requests: DeviceRequests, transfers: DeviceTransfers) {
    this.#zones = zones;
    this.#readOnly = readOnly;
    this.#requests = requests;
    this.#transfers = transfers;
  }

  start(slot: number, chain: DescriptorChain, type: number, sector: number): number {
    if (type === VIRTIO_BLK_T_ZONE_REPORT) return this.#report(slot, chain, sector);
    if (this.#readOnly) return VIRTIO_BLK_S_IOERR;
    if (type === VIRTIO_BLK_T_ZONE_APPEND) return this.#append(slot, chain, sector);
    const isBare =
      chain.readableSize === VIRTIO_BLK_OUTHDR.size && chain.writableSize === VIRTIO_BLK_STATUS_SIZE;
    if (!isBare) return VIRTIO_BLK_S_IOERR;
    return this.#begun(slot, this.#zones.manage(type, sector, slot));
  }

  /** Inside the capacity and whole sectors; what nobody has written reads as zero. */
  read(slot: number, chain: DescriptorChain, sector: number, size: number): number {
    const status = this.#zones.read(sector, size / VIRTIO_BLK_SECTOR_SIZE);
    if (status !== VIRTIO_BLK_S_OK) return status;
    const dataSize = this.#zones.dataSectors * VIRTIO_BLK_SECTOR_SIZE;
    if (dataSize < size) fillZero(chain, dataSize, size);
    return this.#transfers.start(slot, false, sector, dataSize);
  }

  write(slot: number, sector: number, size: number): number {
    const status = this.#zones.write(sector, size / VIRTIO_BLK_SECTOR_SIZE);
    return status === VIRTIO_BLK_S_OK ? this.#transfers.start(slot, true, sector, size) : status;
  }

  /** Zeroes are written like anything else. */
  zero(sector: number, sectorCount: number): number {
    return this.#zones.write(sector, sectorCount);
  }

  erase(sector: number, sectorCount: number): number {
    return this.#zones.erase(sector, sectorCount);
  }

  #begun(slot: number, status: number): number {
    if (status !== BACKEND_PENDING) return status;
    this.#requests.pendingCount[slot]! += 1;
    return VIRTIO_BLK_S_OK;
  }

  /** `append_sector` is written when the request has ended well; see `finishAppend`. */
  #append(slot: number, chain: DescriptorChain, sector: number): number {
    const size = chain.readableSize - VIRTIO_BLK_OUTHDR.size;
    if (chain.writableSize !== VIRTIO_BLK_APPEND_SECTOR_SIZE + VIRTIO_BLK_STATUS_SIZE)
      return VIRTIO_BLK_S_IOERR;
    if (size % VIRTIO_BLK_SECTOR_SIZE !== 0) return VIRTIO_BLK_S_ZONE_UNALIGNED_WP;
    const status = this.#zones.append(sector, size / VIRTIO_BLK_SECTOR_SIZE);
    if (status !== VIRTIO_BLK_S_OK) return status;
    const { appendSector } = this.#zones;
    this.#requests.appendSector[slot] = appendSector;
    this.#requests.writtenSize[slot] = VIRTIO_BLK_APPEND_SECTOR_SIZE;
    return this.#transfers.start(slot, true, appendSector, size);
  }

  /** As many zones as fit, from the one that `sector` lies in. */
  #report(slot: number, chain: DescriptorChain, sector: number): number {
    const room = chain.writableSize - VIRTIO_BLK_STATUS_SIZE - VIRTIO_BLK_ZONE_REPORT.size;
    const first = this.#zones.indexOf(sector);
    if (chain.readableSize !== VIRTIO_BLK_OUTHDR.size) return VIRTIO_BLK_S_IOERR;
    if (room < 0 || first < 0) return VIRTIO_BLK_S_ZONE_INVALID_CMD;
    const fitting = Math.floor(room / VIRTIO_BLK_ZONE_DESCRIPTOR.size);
    const count = Math.min(fitting, this.#zones.count - first);
    chain.write(0, this.#zeroes);
    chain.writeU32(VIRTIO_BLK_ZONE_REPORT.offset.nr_zones, count);
    let at = VIRTIO_BLK_ZONE_REPORT.size;
    for (let index = first; index < first + count; index += 1) {
      this.#encode(index);
      chain.write(at, this.#descriptor);
      at += VIRTIO_BLK_ZONE_DESCRIPTOR.size;
    }
    this.#requests.writtenSize[slot] = at;
    return VIRTIO_BLK_S_OK;
  }

  #encode(index: number): void {
    const { offset } = VIRTIO_BLK_ZONE_DESCRIPTOR;
    const zone = this.#zone;
    this.#zones.describe(index, zone);
    this.#put(offset.z_cap, zone.capacity);
    this.#put(offset.z_start, zone.start);
    this.#put(offset.z_wp, zone.writePointer);
    this.#descriptor[offset.z_type] = zone.type;
    this.#descriptor[offset.z_state] = zone.state;
  }

  #put(at: number, sector: number): void {
    this.#words[at / 4] = sectorLow(sector);
    this.#words[at / 4 + 1] = sectorHigh(sector);
  }
}

/** Where the appended data begins, before the status byte (§5.2.6, struct virtio_blk_req_za). */
export function finishAppend(chain: DescriptorChain, appendSector: number): void {
  chain.writeU32(0, sectorLow(appendSector));
  chain.writeU32(4, sectorHigh(appendSector));
}

/** Zeroes bytes `[from, to)` of the writable part. */
function fillZero(chain: DescriptorChain, from: number, to: number): void {
  const { segments, regions } = chain;
  let at = 0;
  for (let index = chain.readableCount; at < to; index += 1) {
    const size = segments.size[index]!;
    const [start, end] = [Math.max(from - at, 0), Math.min(to - at, size)];
    const offset = segments.offset[index]!;
    if (start < end) regions[segments.region[index]!]!.u8.fill(0, offset + start, offset + end);
    at += size;
  }
}
