/** What a zoned backend is asked beside reads and writes (VIRTIO §5.2.6, zoned block devices). */

/** Fixed properties of a zoned disk; sectors of 512 bytes. */
export interface ZoneLayout {
  /** `VIRTIO_BLK_Z_HM` or `VIRTIO_BLK_Z_HA`. */
  readonly model: number;
  readonly capacitySectors: number;
  /** Of every zone but the last, which may be smaller. */
  readonly zoneSectors: number;
  /** Of these, how many can be written; less only on host-managed disks. */
  readonly zoneCapacitySectors: number;
  /** Zones from the start of the disk that are conventional. */
  readonly conventionalCount: number;
  /** 0: no limit. */
  readonly maxOpenZones: number;
  readonly maxActiveZones: number;
  /** Data of one append; 0: no appends. */
  readonly maxAppendSectors: number;
  /** Bytes that offset and size of writes to sequential zones are a multiple of. */
  readonly writeGranularity: number;
}

/** One zone as a report has it; filled by `describe`. */
export interface ZoneDescription {
  capacity: number;
  start: number;
  /** Undefined by the specification for conventional, full, read-only and offline zones; the end of the zone then. */
  writePointer: number;
  /** `VIRTIO_BLK_ZT_*`. */
  type: number;
  /** `VIRTIO_BLK_ZS_*`. */
  state: number;
}

/**
 * The zones of a disk. Requests are admitted in the order of the calls, before their data is touched: the write pointer
 * moves at admission, so that a driver may have many writes to a zone in flight. Statuses are `VIRTIO_BLK_S_*`;
 * nothing has changed when the status is not OK. Sectors lie inside the capacity, or are `Infinity`.
 */
export interface BlockZones {
  readonly layout: ZoneLayout;
  readonly count: number;
  /** Whether the driver negotiated zones. One that did not knows no limits, so none are kept before it. */
  setAware(isAware: boolean): void;
  /** Admits a read. `dataSectors` is then how many of the sectors, from the first, are storage; the others read as zero. */
  read(sector: number, sectorCount: number): number;
  readonly dataSectors: number;
  /** Admits a write and moves the write pointer. */
  write(sector: number, sectorCount: number): number;
  /** Admits an append to the zone that starts at `sector`; the data goes to `appendSector`. */
  append(sector: number, sectorCount: number): number;
  readonly appendSector: number;
  /**
   * Carries out `VIRTIO_BLK_T_ZONE_OPEN`, `_CLOSE`, `_FINISH`, `_RESET` on the zone that starts at `sector`, or `_RESET_ALL`.
   * Ends as an operation of the backend: at once by its status, or `BACKEND_PENDING`.
   */
  manage(type: number, sector: number, token: number): number;
  /** Empties the zones of a range of whole zones, whose storage the caller erases. */
  erase(sector: number, sectorCount: number): number;
  /** The zone that `sector` lies in; -1 beyond the disk. */
  indexOf(sector: number): number;
  describe(index: number, into: ZoneDescription): void;
}

export function zoneDescription(): ZoneDescription {
  return { capacity: 0, start: 0, writePointer: 0, type: 0, state: 0 };
}
