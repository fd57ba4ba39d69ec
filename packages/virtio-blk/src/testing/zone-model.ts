/**
 * The rules of VIRTIO §5.2.6 for zones once more, written for reading: every state is looked up in the list, every count is
 * counted anew. What `ZoneTable` is compared with.
 */
export interface ModelZone {
  readonly start: number;
  readonly size: number;
  readonly capacity: number;
  readonly type: 'conventional' | 'required' | 'preferred';
  state: 'none' | 'empty' | 'implicit' | 'explicit' | 'closed' | 'full' | 'read-only' | 'offline';
  written: number;
  openedAt: number;
}

export interface ModelLimits {
  readonly capacitySectors: number;
  readonly zoneSectors: number;
  readonly zoneCapacitySectors: number;
  readonly conventionalCount: number;
  readonly isHostAware: boolean;
  readonly maxOpen: number;
  readonly maxActive: number;
  readonly maxAppend: number;
  readonly granularitySectors: number;
}

export type ModelStatus = 'OK' | 'IOERR' | 'UNSUPP' | 'INVALID' | 'UNALIGNED' | 'OPEN' | 'ACTIVE';

export class ZoneModel {
  readonly zones: ModelZone[] = [];
  readonly #limits: ModelLimits;
  #time = 0;
  lastAppend = 0;

  constructor(limits: ModelLimits) {
    this.#limits = limits;
    for (let start = 0; start < limits.capacitySectors; start += limits.zoneSectors) {
      const size = Math.min(limits.zoneSectors, limits.capacitySectors - start);
      const isConventional = this.zones.length < limits.conventionalCount;
      this.zones.push({
        start,
        size,
        capacity: Math.min(size, limits.zoneCapacitySectors),
        type: isConventional ? 'conventional' : limits.isHostAware ? 'preferred' : 'required',
        state: isConventional ? 'none' : 'empty',
        written: 0,
        openedAt: 0,
      });
    }
  }

  get open(): ModelZone[] {
    return this.zones.filter(({ state }) => state === 'implicit' || state === 'explicit');
  }
  get active(): ModelZone[] {
    return this.zones.filter(
      ({ state }) => state === 'implicit' || state === 'explicit' || state === 'closed',
    );
  }

  touched(sector: number, count: number): ModelZone[] {
    return this.zones.filter((zone) => sector < zone.start + zone.size && sector + count > zone.start);
  }

  read(sector: number, count: number): ModelStatus {
    const zones = this.touched(sector, count);
    if (zones.some(({ state }) => state === 'offline')) return 'INVALID';
    return zones.length > 1 && zones.some(({ type }) => type === 'required') ? 'INVALID' : 'OK';
  }

  /** Sectors that a read gives data of. */
  isData(sector: number): boolean {
    const zone = this.touched(sector, 1)[0]!;
    return zone.type !== 'required' || sector < zone.start + zone.written;
  }

  write(sector: number, count: number): ModelStatus {
    if (count === 0) return 'OK';
    const zones = this.touched(sector, count);
    if (zones.some(({ state }) => state === 'offline' || state === 'read-only')) return 'INVALID';
    if (zones.some(({ type }) => type === 'required')) {
      return zones.length > 1 ? 'INVALID' : this.#writeRequired(zones[0]!, sector, count);
    }
    for (const [index, zone] of zones.entries()) {
      const status = zone.type === 'preferred' ? this.#openToWrite(zone) : 'OK';
      if (status === 'OK') continue;
      for (const undone of zones
        .slice(0, index)
        .filter(({ state }) => state === 'implicit' || state === 'explicit')) {
        undone.state = undone.written > 0 ? 'closed' : 'empty';
      }
      return status;
    }
    for (const zone of zones.filter(({ type }) => type === 'preferred')) {
      zone.written = Math.max(zone.written, Math.min(sector + count - zone.start, zone.size));
      if (zone.written === zone.capacity) zone.state = 'full';
    }
    return 'OK';
  }

  append(sector: number, count: number): ModelStatus {
    if (this.#limits.maxAppend === 0) return 'UNSUPP';
    const zone = this.zones.find(({ start }) => start === sector);
    if (zone?.type !== 'required' || count > this.#limits.maxAppend) return 'INVALID';
    if (zone.state === 'offline' || zone.state === 'read-only') return 'INVALID';
    this.lastAppend = zone.start + zone.written;
    return this.#writeRequired(zone, this.lastAppend, count);
  }

  openZone(sector: number): ModelStatus {
    const zone = this.#sequential(sector);
    if (zone === undefined || zone.state === 'full') return 'INVALID';
    const status = zone.state === 'implicit' || zone.state === 'explicit' ? 'OK' : this.#makeRoom(zone);
    if (status === 'OK') zone.state = 'explicit';
    return status;
  }

  closeZone(sector: number): ModelStatus {
    const zone = this.#sequential(sector);
    if (zone === undefined || zone.state === 'full' || zone.state === 'empty') return 'INVALID';
    zone.state = zone.written > 0 ? 'closed' : 'empty';
    return 'OK';
  }

  finish(sector: number): ModelStatus {
    const zone = this.#sequential(sector);
    if (zone === undefined) return 'INVALID';
    zone.state = 'full';
    return 'OK';
  }

  reset(sector: number): ModelStatus {
    const zone = this.#sequential(sector);
    if (zone === undefined) return 'INVALID';
    zone.state = 'empty';
    zone.written = 0;
    return 'OK';
  }

  resetAll(): ModelStatus {
    for (const zone of this.zones) {
      if (['none', 'read-only', 'offline'].includes(zone.state)) continue;
      zone.state = 'empty';
      zone.written = 0;
    }
    return 'OK';
  }

  #sequential(sector: number): ModelZone | undefined {
    const zone = this.zones.find(({ start }) => start === sector);
    const isUsable = zone !== undefined && !['none', 'read-only', 'offline'].includes(zone.state);
    return isUsable ? zone : undefined;
  }

  #writeRequired(zone: ModelZone, sector: number, count: number): ModelStatus {
    if (zone.state === 'full') return 'INVALID';
    if (sector !== zone.start + zone.written) return 'UNALIGNED';
    if ((sector + count) % this.#limits.granularitySectors !== 0) return 'UNALIGNED';
    if (zone.written + count > zone.capacity) return 'INVALID';
    if (count === 0) return 'OK';
    const status = this.#openToWrite(zone);
    if (status !== 'OK') return status;
    zone.written += count;
    if (zone.written === zone.capacity) zone.state = 'full';
    return 'OK';
  }

  #openToWrite(zone: ModelZone): ModelStatus {
    if (zone.state !== 'empty' && zone.state !== 'closed') return 'OK';
    const status = this.#makeRoom(zone);
    if (status !== 'OK') return status;
    zone.state = 'implicit';
    this.#time += 1;
    zone.openedAt = this.#time;
    return 'OK';
  }

  #makeRoom(zone: ModelZone): ModelStatus {
    const { maxOpen, maxActive } = this.#limits;
    if (zone.state === 'empty' && maxActive > 0 && this.active.length === maxActive) return 'ACTIVE';
    if (maxOpen === 0 || this.open.length < maxOpen) return 'OK';
    const [oldest] = this.open
      .filter(({ state }) => state === 'implicit')
      .toSorted((one, other) => one.openedAt - other.openedAt);
    if (oldest === undefined) return 'OPEN';
    oldest.state = 'closed';
    return 'OK';
  }
}
