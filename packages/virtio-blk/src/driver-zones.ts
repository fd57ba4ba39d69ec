import {
  VIRTIO_BLK_SECTOR_SIZE,
  VIRTIO_BLK_T_ZONE_APPEND,
  VIRTIO_BLK_T_ZONE_CLOSE,
  VIRTIO_BLK_T_ZONE_FINISH,
  VIRTIO_BLK_T_ZONE_OPEN,
  VIRTIO_BLK_T_ZONE_REPORT,
  VIRTIO_BLK_T_ZONE_RESET,
  VIRTIO_BLK_T_ZONE_RESET_ALL,
  VIRTIO_BLK_ZONE_DESCRIPTOR,
  VIRTIO_BLK_ZONE_REPORT,
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
import type { ZonedProfile } from './driver-config.ts';
import type { JobQueue } from './driver-jobs.ts';
import { BlkError } from './errors.ts';

export type BlkZoneType = 'conventional' | 'sequential-required' | 'sequential-preferred';
export type BlkZoneState =
  | 'not-write-pointer'
  | 'empty'
  | 'implicitly-open'
  | 'explicitly-open'
  | 'closed'
  | 'read-only'
  | 'full'
  | 'offline';

/** One zone of a report; sectors of 512 bytes. */
export interface BlkZone {
  readonly start: number;
  /** Sectors that can be written when it is empty. */
  readonly capacitySectors: number;
  /** Sector of the next write; undefined for zones that have none (conventional, full, read-only, offline). */
  readonly writePointer: number | undefined;
  readonly type: BlkZoneType;
  readonly state: BlkZoneState;
}

/** The zones of a zoned disk. Methods reject as those of `BlkDriver`, and with the `ZONE_…` codes. */
export interface BlkZones extends ZonedProfile {
  /** Zones now; follows the capacity. */
  readonly count: number;
  /** Bytes of one append at most; 0 when the disk has none. */
  readonly appendSizeMax: number;
  /** Zones from the one that `sector` lies in (default 0), at most `countMax` (default all). Asks as often as it takes. */
  report(sector?: number, countMax?: number): Promise<BlkZone[]>;
  /** `sector` is the first of the zone. */
  open(sector: number): Promise<void>;
  close(sector: number): Promise<void>;
  finish(sector: number): Promise<void>;
  reset(sector: number): Promise<void>;
  resetAll(): Promise<void>;
  /**
   * Writes `source`, a whole number of sectors and of `writeGranularity`, at the write pointer of the zone that starts at
   * `sector`; resolves to the sector that it went to. Appends in flight together land in any order. Rejects with
   * `RangeError` for more than `appendSizeMax`.
   */
  append(sector: number, source: Uint8Array): Promise<number>;
}

export interface DriverZonesOptions {
  readonly profile: ZonedProfile;
  readonly jobs: JobQueue;
  readonly capacitySectors: () => number;
  /** Throws if nothing may be written. */
  readonly requireWritable: (what: string) => void;
  /** Bytes of one request with data. */
  readonly transferSizeMax: number;
}

const TYPES: ReadonlyMap<number, BlkZoneType> = new Map([
  [VIRTIO_BLK_ZT_CONV, 'conventional'],
  [VIRTIO_BLK_ZT_SWR, 'sequential-required'],
  [VIRTIO_BLK_ZT_SWP, 'sequential-preferred'],
]);
const STATES: ReadonlyMap<number, BlkZoneState> = new Map([
  [VIRTIO_BLK_ZS_NOT_WP, 'not-write-pointer'],
  [VIRTIO_BLK_ZS_EMPTY, 'empty'],
  [VIRTIO_BLK_ZS_IOPEN, 'implicitly-open'],
  [VIRTIO_BLK_ZS_EOPEN, 'explicitly-open'],
  [VIRTIO_BLK_ZS_CLOSED, 'closed'],
  [VIRTIO_BLK_ZS_RDONLY, 'read-only'],
  [VIRTIO_BLK_ZS_FULL, 'full'],
  [VIRTIO_BLK_ZS_OFFLINE, 'offline'],
]);

export class DriverZones implements BlkZones {
  readonly model: ZonedProfile['model'];
  readonly zoneSectors: number;
  readonly maxOpenZones: number;
  readonly maxActiveZones: number;
  readonly maxAppendSectors: number;
  readonly writeGranularity: number;
  readonly appendSizeMax: number;
  readonly #options: DriverZonesOptions;

  constructor(options: DriverZonesOptions) {
    const { profile, jobs, transferSizeMax } = options;
    this.#options = options;
    this.model = profile.model;
    this.zoneSectors = profile.zoneSectors;
    this.maxOpenZones = profile.maxOpenZones;
    this.maxActiveZones = profile.maxActiveZones;
    this.maxAppendSectors = profile.maxAppendSectors;
    this.writeGranularity = profile.writeGranularity;
    const appendSize = Math.min(
      profile.maxAppendSectors * VIRTIO_BLK_SECTOR_SIZE,
      transferSizeMax,
      jobs.chunkSizeMax,
    );
    this.appendSizeMax = appendSize - (appendSize % profile.writeGranularity);
  }

  get count(): number {
    return Math.ceil(this.#options.capacitySectors() / this.zoneSectors);
  }

  async report(sector: number = 0, countMax: number = Number.POSITIVE_INFINITY): Promise<BlkZone[]> {
    const capacity = this.#options.capacitySectors();
    this.#requireInside('zone report', sector);
    const zones: BlkZone[] = [];
    let next = sector - (sector % this.zoneSectors);
    while (next < capacity && zones.length < countMax) {
      const page = await this.#reportPage(next, Math.min(countMax - zones.length, this.count));
      zones.push(...page);
      next += page.length * this.zoneSectors;
    }
    return zones;
  }

  async open(sector: number): Promise<void> {
    await this.#manage('open', VIRTIO_BLK_T_ZONE_OPEN, sector);
  }
  async close(sector: number): Promise<void> {
    await this.#manage('close', VIRTIO_BLK_T_ZONE_CLOSE, sector);
  }
  async finish(sector: number): Promise<void> {
    await this.#manage('finish', VIRTIO_BLK_T_ZONE_FINISH, sector);
  }
  async reset(sector: number): Promise<void> {
    await this.#manage('reset', VIRTIO_BLK_T_ZONE_RESET, sector);
  }
  async resetAll(): Promise<void> {
    this.#options.requireWritable('reset of all zones');
    await this.#options.jobs.command('reset of all zones', VIRTIO_BLK_T_ZONE_RESET_ALL, 0);
  }

  async append(sector: number, source: Uint8Array): Promise<number> {
    const what = `append of ${source.length} bytes to the zone at sector ${sector}`;
    const { jobs, requireWritable } = this.#options;
    requireWritable(what);
    if (this.maxAppendSectors === 0) throw new BlkError('UNSUPP', `${what}: the disk has no appends`);
    this.#requireInside(what, sector);
    const isWhole = source.length % this.writeGranularity === 0;
    if (!isWhole || source.length === 0 || source.length > this.appendSizeMax) {
      throw new RangeError(
        `${source.length} bytes are not a multiple of ${this.writeGranularity} up to ${this.appendSizeMax}`,
      );
    }
    const went = await jobs.append(what, VIRTIO_BLK_T_ZONE_APPEND, sector, source);
    const count = source.length / VIRTIO_BLK_SECTOR_SIZE;
    if (went < sector || went + count > sector + this.zoneSectors) {
      throw new BlkError('EPROTO', `${what} went to sector ${went}, says the device`);
    }
    return went;
  }

  async #manage(name: string, type: number, sector: number): Promise<void> {
    const what = `${name} of the zone at sector ${sector}`;
    this.#options.requireWritable(what);
    this.#requireInside(what, sector);
    await this.#options.jobs.command(what, type, sector);
  }

  #requireInside(what: string, sector: number): void {
    const capacity = this.#options.capacitySectors();
    if (Number.isInteger(sector) && sector >= 0 && sector < capacity) return;
    throw new BlkError('ERANGE', `${what} is not inside the disk's ${capacity} sectors`);
  }

  /** At least one zone; what the device says is believed where it makes sense. */
  async #reportPage(start: number, countMax: number): Promise<BlkZone[]> {
    const { jobs } = this.#options;
    const room = Math.floor(
      (jobs.chunkSizeMax - VIRTIO_BLK_ZONE_REPORT.size) / VIRTIO_BLK_ZONE_DESCRIPTOR.size,
    );
    const count = Math.min(room, countMax);
    const bytes = new Uint8Array(VIRTIO_BLK_ZONE_REPORT.size + count * VIRTIO_BLK_ZONE_DESCRIPTOR.size);
    const what = `zone report from sector ${start}`;
    await jobs.transfer(what, VIRTIO_BLK_T_ZONE_REPORT, start, bytes);
    const view = new DataView(bytes.buffer);
    const reported = VIRTIO_BLK_ZONE_REPORT.read(view, 0).nr_zones;
    if (reported === 0n || reported > BigInt(count)) {
      throw new BlkError('EPROTO', `${what} has ${reported} zones where 1 to ${count} were due`);
    }
    return Array.from({ length: Number(reported) }, (_, index) => {
      const at = VIRTIO_BLK_ZONE_REPORT.size + index * VIRTIO_BLK_ZONE_DESCRIPTOR.size;
      return this.#parseZone(view, at, start + index * this.zoneSectors);
    });
  }

  #parseZone(view: DataView, at: number, start: number): BlkZone {
    const { z_start, z_cap, z_wp, z_type, z_state } = VIRTIO_BLK_ZONE_DESCRIPTOR.read(view, at);
    const type = TYPES.get(z_type);
    const state = STATES.get(z_state);
    const hasPointer = z_state >= VIRTIO_BLK_ZS_EMPTY && z_state <= VIRTIO_BLK_ZS_CLOSED;
    const isPlaced = z_start === BigInt(start) && z_cap <= BigInt(this.zoneSectors);
    const isPointed = !hasPointer || (z_wp >= z_start && z_wp <= z_start + z_cap);
    if (type === undefined || state === undefined || !isPlaced || !isPointed) {
      throw new BlkError(
        'EPROTO',
        `zone at sector ${start} is reported as start ${z_start}, capacity ${z_cap}, write pointer ${z_wp}, ` +
          `type ${z_type}, state ${z_state}`,
      );
    }
    const writePointer = hasPointer ? Number(z_wp) : undefined;
    return { start, capacitySectors: Number(z_cap), writePointer, type, state };
  }
}
