import {
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_S_ZONE_ACTIVE_RESOURCE,
  VIRTIO_BLK_S_ZONE_INVALID_CMD,
  VIRTIO_BLK_S_ZONE_OPEN_RESOURCE,
  VIRTIO_BLK_S_ZONE_UNALIGNED_WP,
  VIRTIO_BLK_SECTOR_SIZE,
  VIRTIO_BLK_Z_HA,
  VIRTIO_BLK_ZS_CLOSED,
  VIRTIO_BLK_ZS_EMPTY,
  VIRTIO_BLK_ZS_EOPEN,
  VIRTIO_BLK_ZS_FULL,
  VIRTIO_BLK_ZS_IOPEN,
  VIRTIO_BLK_ZS_NOT_WP,
  VIRTIO_BLK_ZS_OFFLINE,
  VIRTIO_BLK_ZS_RDONLY,
  VIRTIO_BLK_ZT_CONV,
  VIRTIO_BLK_ZT_SWP,
  VIRTIO_BLK_ZT_SWR,
} from '@virtlab/abi/virtio-blk';
import type { ZoneDescription, ZoneLayout } from './zone-contract.ts';

/**
 * The zone state machine of VIRTIO §5.2.6, without any storage: states, write pointers, and the counts of open and active
 * zones against their limits. A request that is refused has changed nothing but, where it says so, that an implicitly
 * open zone was closed to make room.
 *
 *     Empty ──write──▶ implicitly open ──open──▶ explicitly open ──close──▶ closed (or empty, if nothing was written)
 *       ▲                    └── closed to make room, or by close ──▶ closed ──write──▶ implicitly open
 *       └──────────── reset ──────────── full ◀── finish, or the last sector written ── any of them
 */
export class ZoneTable {
  readonly layout: ZoneLayout;
  readonly count: number;
  /** `VIRTIO_BLK_ZS_*` by zone. */
  readonly state: Uint8Array;
  /** Sectors from the start of the zone that were written; the write pointer counts from there. */
  readonly written: Float64Array;
  /** When a zone was opened implicitly: the oldest makes room. */
  readonly #openedAt: Float64Array;
  #clock = 0;
  #openCount = 0;
  #activeCount = 0;
  appendSector = 0;
  dataSectors = 0;
  /** See `BlockZones.setAware`. */
  keepsLimits = true;

  constructor(layout: ZoneLayout) {
    this.layout = layout;
    this.count = Math.ceil(layout.capacitySectors / layout.zoneSectors);
    this.state = new Uint8Array(this.count).fill(VIRTIO_BLK_ZS_EMPTY);
    this.state.fill(VIRTIO_BLK_ZS_NOT_WP, 0, layout.conventionalCount);
    this.written = new Float64Array(this.count);
    this.#openedAt = new Float64Array(this.count);
  }

  get openCount(): number {
    return this.#openCount;
  }
  get activeCount(): number {
    return this.#activeCount;
  }

  startOf(index: number): number {
    return index * this.layout.zoneSectors;
  }
  /** Sectors of the zone, and those of them that can be written. */
  sizeOf(index: number): number {
    return Math.min(this.layout.zoneSectors, this.layout.capacitySectors - this.startOf(index));
  }
  capacityOf(index: number): number {
    return Math.min(this.layout.zoneCapacitySectors, this.sizeOf(index));
  }

  indexOf(sector: number): number {
    return sector < this.layout.capacitySectors ? Math.floor(sector / this.layout.zoneSectors) : -1;
  }

  typeOf(index: number): number {
    if (index < this.layout.conventionalCount) return VIRTIO_BLK_ZT_CONV;
    return this.layout.model === VIRTIO_BLK_Z_HA ? VIRTIO_BLK_ZT_SWP : VIRTIO_BLK_ZT_SWR;
  }

  describe(index: number, into: ZoneDescription): void {
    const state = this.state[index]!;
    const hasPointer = state >= VIRTIO_BLK_ZS_EMPTY && state <= VIRTIO_BLK_ZS_CLOSED;
    into.capacity = this.capacityOf(index);
    into.start = this.startOf(index);
    into.writePointer = into.start + (hasPointer ? this.written[index]! : this.sizeOf(index));
    into.type = this.typeOf(index);
    into.state = state;
  }

  read(sector: number, sectorCount: number): number {
    this.dataSectors = sectorCount;
    if (sectorCount === 0) return VIRTIO_BLK_S_OK;
    const first = this.indexOf(sector);
    const last = this.indexOf(sector + sectorCount - 1);
    for (let index = first; index <= last; index += 1) {
      if (this.state[index] === VIRTIO_BLK_ZS_OFFLINE) return VIRTIO_BLK_S_ZONE_INVALID_CMD;
      if (this.typeOf(index) !== VIRTIO_BLK_ZT_SWR) continue;
      if (first !== last) return VIRTIO_BLK_S_ZONE_INVALID_CMD;
      const end = this.startOf(index) + this.written[index]!;
      this.dataSectors = Math.max(0, Math.min(sectorCount, end - sector));
    }
    return VIRTIO_BLK_S_OK;
  }

  write(sector: number, sectorCount: number): number {
    if (sectorCount === 0) return VIRTIO_BLK_S_OK;
    const first = this.indexOf(sector);
    const last = this.indexOf(sector + sectorCount - 1);
    const refused = this.#whyNotWrite(first, last, sector, sectorCount);
    if (refused !== VIRTIO_BLK_S_OK) return refused;
    for (let index = first; index <= last; index += 1) {
      const status = this.#openForWrite(index);
      if (status === VIRTIO_BLK_S_OK) continue;
      // Only a write over several preferred zones gets here with some opened: they go back to what their pointer says.
      for (let undone = first; undone < index; undone += 1) this.#closeEmptied(undone);
      return status;
    }
    for (let index = first; index <= last; index += 1) {
      const end = Math.min(sector + sectorCount - this.startOf(index), this.sizeOf(index));
      this.#advance(index, end);
    }
    return VIRTIO_BLK_S_OK;
  }

  append(sector: number, sectorCount: number): number {
    const { maxAppendSectors } = this.layout;
    if (maxAppendSectors === 0) return VIRTIO_BLK_S_UNSUPP;
    const index = this.indexOf(sector);
    if (index < 0 || sectorCount > maxAppendSectors) return VIRTIO_BLK_S_ZONE_INVALID_CMD;
    if (this.typeOf(index) !== VIRTIO_BLK_ZT_SWR) return VIRTIO_BLK_S_ZONE_INVALID_CMD;
    if (sector !== this.startOf(index)) return VIRTIO_BLK_S_ZONE_INVALID_CMD;
    if (this.state[index] === VIRTIO_BLK_ZS_RDONLY || this.state[index] === VIRTIO_BLK_ZS_OFFLINE) {
      return VIRTIO_BLK_S_ZONE_INVALID_CMD;
    }
    this.appendSector = sector + this.written[index]!;
    return this.#writeSequential(index, this.appendSector, sectorCount);
  }

  /** `open`, `close`, `finish` and `reset` take the first sector of a sequential zone. */
  open(sector: number): number {
    const index = this.#managed(sector);
    if (index < 0) return VIRTIO_BLK_S_ZONE_INVALID_CMD;
    const state = this.state[index]!;
    if (state === VIRTIO_BLK_ZS_EOPEN) return VIRTIO_BLK_S_OK;
    if (state === VIRTIO_BLK_ZS_FULL) return VIRTIO_BLK_S_ZONE_INVALID_CMD;
    if (state !== VIRTIO_BLK_ZS_IOPEN) {
      const status = this.#makeRoom(state === VIRTIO_BLK_ZS_EMPTY);
      if (status !== VIRTIO_BLK_S_OK) return status;
    }
    this.#enter(index, VIRTIO_BLK_ZS_EOPEN);
    return VIRTIO_BLK_S_OK;
  }

  close(sector: number): number {
    const index = this.#managed(sector);
    if (index < 0) return VIRTIO_BLK_S_ZONE_INVALID_CMD;
    const state = this.state[index]!;
    if (state === VIRTIO_BLK_ZS_CLOSED) return VIRTIO_BLK_S_OK;
    if (!isOpen(state)) return VIRTIO_BLK_S_ZONE_INVALID_CMD;
    this.#closeEmptied(index);
    return VIRTIO_BLK_S_OK;
  }

  finish(sector: number): number {
    const index = this.#managed(sector);
    if (index < 0) return VIRTIO_BLK_S_ZONE_INVALID_CMD;
    this.#enter(index, VIRTIO_BLK_ZS_FULL);
    return VIRTIO_BLK_S_OK;
  }

  reset(sector: number): number {
    const index = this.#managed(sector);
    if (index < 0) return VIRTIO_BLK_S_ZONE_INVALID_CMD;
    this.clear(index);
    return VIRTIO_BLK_S_OK;
  }

  /** A reset that was found possible. */
  clear(index: number): void {
    this.written[index] = 0;
    this.#enter(index, VIRTIO_BLK_ZS_EMPTY);
  }

  /** Whether RESET_ALL has something to do here. */
  isResettable(index: number): boolean {
    const state = this.state[index]!;
    return state === VIRTIO_BLK_ZS_FULL || isActive(state);
  }

  /** Read-only or offline, as a failing disk does by itself (§5.2.6); an offline zone stays so. */
  fail(index: number, state: number): void {
    if (this.state[index] !== VIRTIO_BLK_ZS_OFFLINE) this.#enter(index, state);
  }

  /** At start, from what was stored: nothing is open. */
  restore(index: number, state: number, written: number): void {
    this.written[index] = written;
    const isPartial = written > 0 && written < this.capacityOf(index);
    const resting = isPartial
      ? VIRTIO_BLK_ZS_CLOSED
      : written === 0
        ? VIRTIO_BLK_ZS_EMPTY
        : VIRTIO_BLK_ZS_FULL;
    this.#enter(index, state >= VIRTIO_BLK_ZS_RDONLY ? state : resting);
  }

  /** Index of a sequential zone that starts at `sector` and has not failed; else -1. */
  #managed(sector: number): number {
    const index = this.indexOf(sector);
    if (index < 0 || this.typeOf(index) === VIRTIO_BLK_ZT_CONV || sector !== this.startOf(index)) return -1;
    const state = this.state[index]!;
    return state === VIRTIO_BLK_ZS_RDONLY || state === VIRTIO_BLK_ZS_OFFLINE ? -1 : index;
  }

  #whyNotWrite(first: number, last: number, sector: number, sectorCount: number): number {
    if (last < 0) return VIRTIO_BLK_S_IOERR;
    for (let index = first; index <= last; index += 1) {
      const state = this.state[index]!;
      if (state === VIRTIO_BLK_ZS_RDONLY || state === VIRTIO_BLK_ZS_OFFLINE)
        return VIRTIO_BLK_S_ZONE_INVALID_CMD;
      if (this.typeOf(index) !== VIRTIO_BLK_ZT_SWR) continue;
      if (first !== last) return VIRTIO_BLK_S_ZONE_INVALID_CMD;
      return this.#whyNotSequential(index, sector, sectorCount);
    }
    return VIRTIO_BLK_S_OK;
  }

  /**
   * Full comes before the write pointer, which a full zone has none of; the pointer before the room that is left, since
   * a write elsewhere says nothing about room.
   */
  #whyNotSequential(index: number, sector: number, sectorCount: number): number {
    if (this.state[index] === VIRTIO_BLK_ZS_FULL) return VIRTIO_BLK_S_ZONE_INVALID_CMD;
    const { writeGranularity } = this.layout;
    const end = sector + sectorCount;
    if (sector !== this.startOf(index) + this.written[index]!) return VIRTIO_BLK_S_ZONE_UNALIGNED_WP;
    if ((end * VIRTIO_BLK_SECTOR_SIZE) % writeGranularity !== 0) return VIRTIO_BLK_S_ZONE_UNALIGNED_WP;
    const room = this.startOf(index) + this.capacityOf(index);
    return end > room ? VIRTIO_BLK_S_ZONE_INVALID_CMD : VIRTIO_BLK_S_OK;
  }

  #writeSequential(index: number, sector: number, sectorCount: number): number {
    const refused = this.#whyNotSequential(index, sector, sectorCount);
    if (refused !== VIRTIO_BLK_S_OK || sectorCount === 0) return refused;
    const status = this.#openForWrite(index);
    if (status === VIRTIO_BLK_S_OK) this.#advance(index, sector + sectorCount - this.startOf(index));
    return status;
  }

  #openForWrite(index: number): number {
    const state = this.state[index]!;
    if (state !== VIRTIO_BLK_ZS_EMPTY && state !== VIRTIO_BLK_ZS_CLOSED) return VIRTIO_BLK_S_OK;
    const status = this.#makeRoom(state === VIRTIO_BLK_ZS_EMPTY);
    if (status === VIRTIO_BLK_S_OK) this.#enter(index, VIRTIO_BLK_ZS_IOPEN);
    return status;
  }

  /** Resources for one more open zone. Where both limits are reached the active one is reported (§5.2.6). */
  #makeRoom(isNewlyActive: boolean): number {
    const { maxActiveZones, maxOpenZones } = this.layout;
    if (!this.keepsLimits) return VIRTIO_BLK_S_OK;
    if (isNewlyActive && maxActiveZones > 0 && this.#activeCount >= maxActiveZones) {
      return VIRTIO_BLK_S_ZONE_ACTIVE_RESOURCE;
    }
    if (maxOpenZones === 0 || this.#openCount < maxOpenZones) return VIRTIO_BLK_S_OK;
    let oldest = -1;
    for (let index = 0; index < this.count; index += 1) {
      if (this.state[index] !== VIRTIO_BLK_ZS_IOPEN) continue;
      if (oldest < 0 || this.#openedAt[index]! < this.#openedAt[oldest]!) oldest = index;
    }
    if (oldest < 0) return VIRTIO_BLK_S_ZONE_OPEN_RESOURCE;
    this.#enter(oldest, VIRTIO_BLK_ZS_CLOSED);
    return VIRTIO_BLK_S_OK;
  }

  /** A preferred zone may be written anywhere: its pointer only ever grows. */
  #advance(index: number, written: number): void {
    if (this.typeOf(index) === VIRTIO_BLK_ZT_CONV) return;
    this.written[index] = Math.max(this.written[index]!, written);
    if (this.written[index] === this.capacityOf(index)) this.#enter(index, VIRTIO_BLK_ZS_FULL);
  }

  #closeEmptied(index: number): void {
    if (!isOpen(this.state[index]!)) return;
    this.#enter(index, this.written[index] === 0 ? VIRTIO_BLK_ZS_EMPTY : VIRTIO_BLK_ZS_CLOSED);
  }

  #enter(index: number, state: number): void {
    const old = this.state[index]!;
    this.#openCount += Number(isOpen(state)) - Number(isOpen(old));
    this.#activeCount += Number(isActive(state)) - Number(isActive(old));
    if (state === VIRTIO_BLK_ZS_IOPEN) this.#openedAt[index] = this.#clock += 1;
    this.state[index] = state;
  }
}

function isOpen(state: number): boolean {
  return state === VIRTIO_BLK_ZS_IOPEN || state === VIRTIO_BLK_ZS_EOPEN;
}

function isActive(state: number): boolean {
  return isOpen(state) || state === VIRTIO_BLK_ZS_CLOSED;
}
