import {
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_S_ZONE_INVALID_CMD,
  VIRTIO_BLK_SECTOR_SIZE,
  VIRTIO_BLK_T_ZONE_CLOSE,
  VIRTIO_BLK_T_ZONE_FINISH,
  VIRTIO_BLK_T_ZONE_OPEN,
  VIRTIO_BLK_T_ZONE_RESET,
  VIRTIO_BLK_T_ZONE_RESET_ALL,
  VIRTIO_BLK_Z_HA,
  VIRTIO_BLK_Z_HM,
  VIRTIO_BLK_ZS_OFFLINE,
  VIRTIO_BLK_ZS_RDONLY,
  VIRTIO_BLK_ZT_SWR,
} from '@virtlab/abi/virtio-blk';
import type { MemoryRegion } from '@virtlab/guest-memory';
import { BACKEND_PENDING, type BackendCompletion, type BlkLifetime, type BlockBackend } from './backend.ts';
import { type BlockVector } from './block-vector.ts';
import { ControlOperations } from './control-operations.ts';
import type { BlockZones, ZoneDescription, ZoneLayout } from './zone-contract.ts';
import type { ZoneStore } from './zone-store.ts';
import { ZoneTable } from './zone-table.ts';

export interface ZonedBackendOptions {
  /** Holds the data; closed with the zoned backend. Its capacity must not change. */
  readonly backend: BlockBackend;
  readonly model: 'host-managed' | 'host-aware';
  /** Sectors of 512 bytes in a zone; a whole number of blocks. */
  readonly zoneSectors: number;
  /** Writable sectors of a zone; less than all only on host-managed disks. Default `zoneSectors`. */
  readonly zoneCapacitySectors?: number;
  /** Conventional zones at the start of the disk. Default 0. */
  readonly conventionalCount?: number;
  /** Default 0: no limit. */
  readonly maxOpenZones?: number;
  readonly maxActiveZones?: number;
  /** Default `zoneCapacitySectors`, at most 2048; 0: no appends. */
  readonly maxAppendSectors?: number;
  /** Bytes. Default the backend's block size. */
  readonly writeGranularity?: number;
  /** Where write pointers outlive the backend. Default nowhere: all zones are empty at the start. */
  readonly store?: ZoneStore;
}

export interface ZonedBackend extends BlockBackend {
  readonly zones: BlockZones;
  /** Zones now open, implicitly or explicitly, and those open or closed. */
  readonly openZoneCount: number;
  readonly activeZoneCount: number;
  /** Makes a zone fail, as a disk may by itself (§5.2.6). An offline zone stays offline. */
  failZone(index: number, as: 'read-only' | 'offline'): void;
}

/**
 * A zoned disk over any backend (VIRTIO §5.2.6). Sectors beyond the write pointer of a sequential write required zone read
 * as zero whatever the backend holds; a reset discards them there. Preferred zones are read as they are, and a reset
 * writes zeroes.
 *
 * Without a `store` the zones are as volatile as the object. With one, a flush makes write pointers durable after the
 * data. What was not flushed when the machine crashed is undefined, as with any write: a pointer may be the older or the
 * newer one, and sectors that it newly covers hold anything. Resets and finishes are volatile until a flush, too.
 * Nothing is open after a restart.
 *
 * @throws RangeError naming the option that does not fit
 */
export function createZonedBackend(options: ZonedBackendOptions): ZonedBackend {
  return new ZonedDisk(options, resolveLayout(options));
}

const APPEND_SECTORS_DEFAULT = 2048;

function resolveLayout(options: ZonedBackendOptions): ZoneLayout {
  const { backend, zoneSectors } = options;
  const { capacitySectors, blockSize } = backend;
  const require = (name: string, value: number, min: number, max: number): number => {
    if (Number.isInteger(value) && value >= min && value <= max) return value;
    throw new RangeError(`${name} ${value} is not an integer from ${min} to ${max}`);
  };
  const blockSectors = blockSize / VIRTIO_BLK_SECTOR_SIZE;
  if (require('zoneSectors', zoneSectors, 1, 0xffff_ffff) % blockSectors !== 0) {
    throw new RangeError(`zoneSectors ${zoneSectors} is no whole number of blocks of ${blockSize} bytes`);
  }
  const isAware = options.model === 'host-aware';
  const zoneCapacitySectors = options.zoneCapacitySectors ?? zoneSectors;
  require('zoneCapacitySectors', zoneCapacitySectors, isAware ? zoneSectors : 1, zoneSectors);
  const count = Math.ceil(capacitySectors / zoneSectors);
  const appendDefault = isAware ? 0 : Math.min(zoneCapacitySectors, APPEND_SECTORS_DEFAULT);
  const granularity = options.writeGranularity ?? blockSize;
  if (!isPowerOfTwo(granularity) || granularity < VIRTIO_BLK_SECTOR_SIZE) {
    throw new RangeError(
      `writeGranularity ${granularity} is not a power of two from ${VIRTIO_BLK_SECTOR_SIZE}`,
    );
  }
  return {
    model: isAware ? VIRTIO_BLK_Z_HA : VIRTIO_BLK_Z_HM,
    capacitySectors,
    zoneSectors,
    zoneCapacitySectors,
    conventionalCount: require('conventionalCount', options.conventionalCount ?? 0, 0, count),
    maxOpenZones: require('maxOpenZones', options.maxOpenZones ?? 0, 0, count),
    maxActiveZones: require('maxActiveZones', options.maxActiveZones ?? 0, 0, count),
    maxAppendSectors: require('maxAppendSectors', options.maxAppendSectors ?? appendDefault, 0, 0xffff_ffff),
    writeGranularity: granularity,
  };
}

class ZonedDisk implements ZonedBackend {
  readonly capacitySectors: number;
  readonly readOnly: boolean;
  readonly blockSize: number;
  readonly mayUnmap: boolean;
  readonly zones: BlockZones;
  readonly readVector?: (vector: BlockVector, position: number, token: number) => number;
  readonly writeVector?: (vector: BlockVector, position: number, token: number) => number;
  readonly secureErase?: (position: number, size: number, token: number) => number;
  readonly lifetime?: () => BlkLifetime;
  readonly #inner: BlockBackend;
  readonly #table: ZoneTable;
  readonly #store: ZoneStore | undefined;
  readonly #control: ControlOperations;

  constructor({ backend, store }: ZonedBackendOptions, layout: ZoneLayout) {
    this.#inner = backend;
    this.#table = new ZoneTable(layout);
    this.#store = store;
    this.#control = new ControlOperations();
    this.capacitySectors = backend.capacitySectors;
    this.readOnly = backend.readOnly;
    this.blockSize = backend.blockSize;
    this.mayUnmap = backend.mayUnmap ?? true;
    store?.load(this.#table);
    this.zones = new DiskZones(this.#table, backend, store, this.#control);
    if (backend.readVector !== undefined && backend.writeVector !== undefined) {
      this.readVector = (vector, position, token) => backend.readVector!(vector, position, token);
      this.writeVector = (vector, position, token) => backend.writeVector!(vector, position, token);
    }
    if (backend.secureErase !== undefined) {
      this.secureErase = (position, size, token) => backend.secureErase!(position, size, token);
    }
    if (backend.lifetime !== undefined) this.lifetime = () => backend.lifetime!();
  }

  get openZoneCount(): number {
    return this.#table.openCount;
  }
  get activeZoneCount(): number {
    return this.#table.activeCount;
  }

  failZone(index: number, as: 'read-only' | 'offline'): void {
    if (this.#table.state[index] === undefined || index < this.#table.layout.conventionalCount) {
      throw new RangeError(`zone ${index} is not a sequential zone of this disk`);
    }
    this.#table.fail(index, as === 'offline' ? VIRTIO_BLK_ZS_OFFLINE : VIRTIO_BLK_ZS_RDONLY);
  }

  onComplete(completion: BackendCompletion | undefined): void {
    this.#control.onComplete(completion);
    this.#inner.onComplete(completion === undefined ? undefined : this.#control.operationEnded);
  }

  read(region: MemoryRegion, offset: number, size: number, position: number, token: number): number {
    return this.#inner.read(region, offset, size, position, token);
  }
  write(region: MemoryRegion, offset: number, size: number, position: number, token: number): number {
    return this.#inner.write(region, offset, size, position, token);
  }

  /** Data first, then the pointers that speak of it. */
  flush(token: number): number {
    const store = this.#store;
    const status = this.#inner.flush(token);
    if (store === undefined || (status !== BACKEND_PENDING && status !== VIRTIO_BLK_S_OK)) return status;
    this.#control.begin(token, status === BACKEND_PENDING ? 1 : 0, (done) => {
      store.save(this.#table);
      store.sync((error) => done(error === null ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR));
    });
    return BACKEND_PENDING;
  }

  discard(position: number, size: number, token: number): number {
    return this.#inner.discard(position, size, token);
  }
  writeZeroes(position: number, size: number, unmap: boolean, token: number): number {
    return this.#inner.writeZeroes(position, size, unmap, token);
  }

  submit(): void {
    this.#inner.submit();
  }

  async close(): Promise<void> {
    await this.#control.drain();
    await this.#inner.close();
    this.#store?.save(this.#table);
    await this.#store?.close();
  }
}

/** The zones of a disk: the state machine, and the storage work that a reset means. */
class DiskZones implements BlockZones {
  readonly layout: ZoneLayout;
  readonly count: number;
  readonly #table: ZoneTable;
  readonly #inner: BlockBackend;
  readonly #store: ZoneStore | undefined;
  readonly #control: ControlOperations;

  constructor(
    table: ZoneTable,
    inner: BlockBackend,
    store: ZoneStore | undefined,
    control: ControlOperations,
  ) {
    this.layout = table.layout;
    this.count = table.count;
    this.#table = table;
    this.#inner = inner;
    this.#store = store;
    this.#control = control;
  }

  setAware(isAware: boolean): void {
    this.#table.keepsLimits = isAware;
  }
  get dataSectors(): number {
    return this.#table.dataSectors;
  }
  get appendSector(): number {
    return this.#table.appendSector;
  }
  indexOf(sector: number): number {
    return this.#table.indexOf(sector);
  }
  describe(index: number, into: ZoneDescription): void {
    this.#table.describe(index, into);
  }
  read(sector: number, sectorCount: number): number {
    return this.#table.read(sector, sectorCount);
  }
  write(sector: number, sectorCount: number): number {
    return this.#table.write(sector, sectorCount);
  }
  append(sector: number, sectorCount: number): number {
    return this.#table.append(sector, sectorCount);
  }

  manage(type: number, sector: number, token: number): number {
    const table = this.#table;
    switch (type) {
      case VIRTIO_BLK_T_ZONE_OPEN:
        return table.open(sector);
      case VIRTIO_BLK_T_ZONE_CLOSE:
        return table.close(sector);
      case VIRTIO_BLK_T_ZONE_FINISH:
        return this.#saved(table.finish(sector));
      case VIRTIO_BLK_T_ZONE_RESET: {
        const index = table.indexOf(sector);
        const hadData = index >= 0 && table.written[index]! > 0;
        const status = table.reset(sector);
        if (status !== VIRTIO_BLK_S_OK || !hadData) return status;
        return this.#wipe(index, index, token);
      }
      case VIRTIO_BLK_T_ZONE_RESET_ALL:
        return this.#resetAll(token);
      default:
        return VIRTIO_BLK_S_UNSUPP;
    }
  }

  erase(sector: number, sectorCount: number): number {
    const table = this.#table;
    const first = table.indexOf(sector);
    const last = table.indexOf(sector + sectorCount - 1);
    for (let index = first; index <= last; index += 1) {
      const isConventional = index < this.layout.conventionalCount;
      const hasFailed =
        table.state[index] === VIRTIO_BLK_ZS_RDONLY || table.state[index] === VIRTIO_BLK_ZS_OFFLINE;
      if (index < 0 || isConventional || hasFailed) return VIRTIO_BLK_S_ZONE_INVALID_CMD;
    }
    for (let index = first; index <= last; index += 1) table.clear(index);
    return this.#saved(VIRTIO_BLK_S_OK);
  }

  /** Neighbouring zones go in one operation. */
  #resetAll(token: number): number {
    const table = this.#table;
    let pendingCount = 0;
    let failed: number = VIRTIO_BLK_S_OK;
    const end = (first: number, last: number): void => {
      const status = this.#wipe(first, last, token);
      if (status === BACKEND_PENDING) pendingCount += 1;
      else if (status !== VIRTIO_BLK_S_OK) failed = status;
    };
    let first = -1;
    for (let index = this.layout.conventionalCount; index < this.count; index += 1) {
      const isDue = table.isResettable(index);
      if (isDue) table.clear(index);
      if (isDue && first < 0) first = index;
      if (!isDue && first >= 0) {
        end(first, index - 1);
        first = -1;
      }
    }
    if (first >= 0) end(first, this.count - 1);
    if (pendingCount === 0) return failed;
    this.#control.begin(token, pendingCount, (done) => done(failed));
    return BACKEND_PENDING;
  }

  #wipe(first: number, last: number, token: number): number {
    const table = this.#table;
    const position = table.startOf(first) * VIRTIO_BLK_SECTOR_SIZE;
    const end = (table.startOf(last) + table.sizeOf(last)) * VIRTIO_BLK_SECTOR_SIZE;
    this.#store?.save(table);
    if (table.typeOf(first) === VIRTIO_BLK_ZT_SWR)
      return this.#inner.discard(position, end - position, token);
    return this.#inner.writeZeroes(position, end - position, true, token);
  }

  #saved(status: number): number {
    if (status === VIRTIO_BLK_S_OK) this.#store?.save(this.#table);
    return status;
  }
}

function isPowerOfTwo(value: number): boolean {
  return Number.isInteger(value) && value > 0 && (value & (value - 1)) === 0;
}
