import { describe, expect, it } from 'vitest';
import { fc } from '@fast-check/vitest';
import {
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_S_ZONE_ACTIVE_RESOURCE,
  VIRTIO_BLK_S_ZONE_INVALID_CMD,
  VIRTIO_BLK_S_ZONE_OPEN_RESOURCE,
  VIRTIO_BLK_S_ZONE_UNALIGNED_WP,
  VIRTIO_BLK_Z_HA,
  VIRTIO_BLK_Z_HM,
  VIRTIO_BLK_ZS_CLOSED,
  VIRTIO_BLK_ZS_EMPTY,
  VIRTIO_BLK_ZS_EOPEN,
  VIRTIO_BLK_ZS_FULL,
  VIRTIO_BLK_ZS_IOPEN,
  VIRTIO_BLK_ZS_NOT_WP,
  VIRTIO_BLK_ZS_OFFLINE,
  VIRTIO_BLK_ZS_RDONLY,
} from '@virtlab/abi/virtio-blk';
import { CAMPAIGN_TIMEOUT_MS, campaign } from './testing/campaign.ts';
import { type ModelLimits, type ModelStatus, ZoneModel } from './testing/zone-model.ts';
import { ZoneTable } from './zone-table.ts';

const STATUSES: Readonly<Record<ModelStatus, number>> = {
  OK: VIRTIO_BLK_S_OK,
  IOERR: VIRTIO_BLK_S_IOERR,
  UNSUPP: VIRTIO_BLK_S_UNSUPP,
  INVALID: VIRTIO_BLK_S_ZONE_INVALID_CMD,
  UNALIGNED: VIRTIO_BLK_S_ZONE_UNALIGNED_WP,
  OPEN: VIRTIO_BLK_S_ZONE_OPEN_RESOURCE,
  ACTIVE: VIRTIO_BLK_S_ZONE_ACTIVE_RESOURCE,
};
const STATES = {
  none: VIRTIO_BLK_ZS_NOT_WP,
  empty: VIRTIO_BLK_ZS_EMPTY,
  implicit: VIRTIO_BLK_ZS_IOPEN,
  explicit: VIRTIO_BLK_ZS_EOPEN,
  closed: VIRTIO_BLK_ZS_CLOSED,
  full: VIRTIO_BLK_ZS_FULL,
  'read-only': VIRTIO_BLK_ZS_RDONLY,
  offline: VIRTIO_BLK_ZS_OFFLINE,
} as const;

function tableOf(limits: ModelLimits): ZoneTable {
  return new ZoneTable({
    model: limits.isHostAware ? VIRTIO_BLK_Z_HA : VIRTIO_BLK_Z_HM,
    capacitySectors: limits.capacitySectors,
    zoneSectors: limits.zoneSectors,
    zoneCapacitySectors: limits.zoneCapacitySectors,
    conventionalCount: limits.conventionalCount,
    maxOpenZones: limits.maxOpen,
    maxActiveZones: limits.maxActive,
    maxAppendSectors: limits.maxAppend,
    writeGranularity: limits.granularitySectors * 512,
  });
}

const ZONE = 16;
const limitsOf = fc
  .record({
    count: fc.integer({ min: 1, max: 8 }),
    lastSize: fc.constantFrom(4, 16),
    capacity: fc.constantFrom(12, 16),
    conventionalCount: fc.nat(2),
    isHostAware: fc.boolean(),
    maxOpen: fc.nat(3),
    maxActive: fc.nat(4),
    maxAppend: fc.constantFrom(0, 4, 8),
    granularitySectors: fc.constantFrom(1, 4),
  })
  .map(({ count, lastSize, capacity, ...limits }): ModelLimits => ({
    ...limits,
    capacitySectors: (count - 1) * ZONE + lastSize,
    zoneSectors: ZONE,
    zoneCapacitySectors: limits.isHostAware ? ZONE : capacity,
    conventionalCount: Math.min(limits.conventionalCount, count),
  }));

const steps = fc.array(
  fc.record({
    // Writes at the pointer are what gets zones anywhere.
    name: fc.constantFrom(
      'write at pointer',
      'write at pointer',
      'write at pointer',
      'append',
      'write',
      'read',
      'open',
      'open',
      'close',
      'finish',
      'reset',
      'reset all',
      'fail',
    ),
    zone: fc.nat(7),
    offset: fc.nat(ZONE - 1),
    count: fc.nat(2 * ZONE),
  }),
  { minLength: 1, maxLength: 80 },
);

interface Step {
  readonly name: string;
  readonly zone: number;
  readonly offset: number;
  readonly count: number;
}

/** Statuses of table and model. */
function perform(step: Step, table: ZoneTable, model: ZoneModel): [number, ModelStatus] {
  const zone = model.zones[step.zone % model.zones.length]!;
  const end = model.zones.at(-1)!.start + model.zones.at(-1)!.size;
  const sector = Math.min(zone.start + step.offset, end);
  const count = Math.min(step.count, end - sector);
  switch (step.name) {
    case 'write at pointer': {
      const at = Math.min(zone.start + zone.written, end);
      const size = Math.min(count % 9, end - at);
      return [table.write(at, size), model.write(at, size)];
    }
    case 'write':
      return [table.write(sector, count), model.write(sector, count)];
    case 'append':
      return [table.append(zone.start, step.count % 9), model.append(zone.start, step.count % 9)];
    case 'read':
      return [table.read(sector, count), model.read(sector, count)];
    case 'reset all': {
      for (let index = 0; index < table.count; index += 1) if (table.isResettable(index)) table.clear(index);
      return [VIRTIO_BLK_S_OK, model.resetAll()];
    }
    case 'fail': {
      // Rare, for it is for ever.
      if (step.count !== 7 || zone.type === 'conventional') return [VIRTIO_BLK_S_OK, 'OK'];
      const state = step.offset % 2 === 0 ? 'read-only' : 'offline';
      table.fail(step.zone % model.zones.length, STATES[state]);
      if (zone.state !== 'offline') zone.state = state;
      return [VIRTIO_BLK_S_OK, 'OK'];
    }
    case 'open':
      return [table.open(zone.start), model.openZone(zone.start)];
    case 'close':
      return [table.close(zone.start), model.closeZone(zone.start)];
    case 'finish':
      return [table.finish(zone.start), model.finish(zone.start)];
    default:
      return [table.reset(zone.start), model.reset(zone.start)];
  }
}

describe('§5.2.6 zones', () => {
  it(
    'the state machine does what the model says, to statuses, states, pointers and counts',
    () => {
      fc.assert(
        fc.property(limitsOf, steps, (limits, all) => {
          const table = tableOf(limits);
          const model = new ZoneModel(limits);
          for (const [index, step] of all.entries()) {
            const [status, expected] = perform(step, table, model);
            const isAppended = step.name === 'append' && expected === 'OK';
            const counts = [table.openCount, table.activeCount];
            const limited = [limits.maxOpen, limits.maxActive].map(
              (max, at) => max === 0 || counts[at]! <= max,
            );
            expect({
              step: index,
              status,
              went: isAppended ? table.appendSector : 0,
              states: [...table.state],
              pointers: [...table.written],
              counts,
              limited,
            }).toEqual({
              step: index,
              status: STATUSES[expected],
              went: isAppended ? model.lastAppend : 0,
              states: model.zones.map(({ state }) => STATES[state]),
              pointers: model.zones.map(({ type, written }) => (type === 'conventional' ? 0 : written)),
              counts: [model.open.length, model.active.length],
              limited: [true, true],
            });
          }
        }),
        campaign(400),
      );
    },
    CAMPAIGN_TIMEOUT_MS,
  );

  it(
    'reads of a required zone give data up to the write pointer and zeroes behind it',
    () => {
      fc.assert(
        fc.property(limitsOf, steps, fc.nat(127), fc.nat(16), (limits, all, from, count) => {
          const table = tableOf(limits);
          const model = new ZoneModel(limits);
          for (const step of all) perform(step, table, model);
          const sector = from % limits.capacitySectors;
          const size = Math.min(count, limits.capacitySectors - sector);
          if (table.read(sector, size) !== VIRTIO_BLK_S_OK) return;
          const data = Array.from({ length: size }, (_, index) => model.isData(sector + index));
          expect(data.filter(Boolean).length).toBe(table.dataSectors);
          expect(data.lastIndexOf(true)).toBe(table.dataSectors - 1);
        }),
        campaign(150),
      );
    },
    CAMPAIGN_TIMEOUT_MS,
  );
});
