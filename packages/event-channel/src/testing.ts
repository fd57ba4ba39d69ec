import type { DomId } from '@virtlab/abi/brands';
import { EVTCHN_FIFO_EVENT_WORDS_PER_PAGE } from '@virtlab/abi/event-channel';
import { XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import { memoryRegion } from '@virtlab/guest-memory';
import type { EventChannelHypercalls, EventChannels, EventTarget, PortTableView } from './contract.ts';
import { deliveryArea, deliveryAreaSize } from './delivery-area.ts';
import { type EventChannelsOptions, createEventChannels } from './event-channels.ts';
import { inProcessHypercalls } from './in-process-hypercalls.ts';
import { PORT_TABLE_ENTRY_SIZE } from './port-table.ts';
import type { PortTables, PortTablesOptions } from './port-tables-contract.ts';
import { createPortTables } from './port-tables.ts';

/** Several domains in one thread, for this package's tests. The lowest domain id is privileged. */
export interface TestDomain {
  readonly channels: EventChannels;
  readonly hypercalls: EventChannelHypercalls;
  readonly portMax: number;
  readonly target: EventTarget;
  readonly portTable: PortTableView;
  /** Doorbells that were rung since the last `run`. */
  wakes: number;
}

export interface TestMachine {
  readonly tables: PortTables;
  readonly domains: readonly TestDomain[];
  /** Dispatches every domain whose doorbell was rung, until none is. */
  run(): void;
  destroy(domain: TestDomain): void;
}

/** Ports of a test domain's table. */
const PORT_COUNT = 8192;
const VCPU_MAX = 4;
const PORT_TABLE_OFFSET = XEN_PAGE_SIZE;
const DELIVERY_OFFSET = PORT_TABLE_OFFSET + PORT_COUNT * PORT_TABLE_ENTRY_SIZE;
const FIRST_EVENT_FRAME = Math.ceil(
  (DELIVERY_OFFSET + deliveryAreaSize(PORT_COUNT, VCPU_MAX)) / XEN_PAGE_SIZE,
);
/** One for control blocks, and the event array. */
const EVENT_FRAME_COUNT = 1 + PORT_COUNT / EVTCHN_FIFO_EVENT_WORDS_PER_PAGE;

/** A shared_info page, a port table, a delivery area and event frames, all zero. */
export function testPages(wake: () => void): {
  readonly target: EventTarget;
  readonly portTable: PortTableView;
} {
  const region = memoryRegion(new SharedArrayBuffer((FIRST_EVENT_FRAME + EVENT_FRAME_COUNT) * XEN_PAGE_SIZE));
  return {
    target: {
      region,
      sharedInfoOffset: 0,
      wake,
      delivery: deliveryArea(DELIVERY_OFFSET, PORT_COUNT, VCPU_MAX),
      eventFrames: { firstFrame: FIRST_EVENT_FRAME, frameCount: EVENT_FRAME_COUNT },
    },
    portTable: { region, offset: PORT_TABLE_OFFSET, portCount: PORT_COUNT },
  };
}

/** The lowest domain's highest port; the others have 1023. */
export const TEST_PORT_MAX = 4095;

export function createTestMachine(
  ids: readonly DomId[],
  more: Pick<Partial<EventChannelsOptions>, 'onHandlerError'> &
    Pick<Partial<PortTablesOptions>, 'portCountMax' | 'vcpuCount' | 'pirqs' | 'isPaused'> = {},
): TestMachine {
  const alive = new Map<DomId, TestDomain>();
  const targets = new Map<DomId, EventTarget>();
  const tables = createPortTables({
    domainExists: (domain) => targets.has(domain),
    targetOf: (domain) => targets.get(domain),
    isPrivileged: (domain) => domain === ids[0],
    portCountMax: (domain) => (domain === ids[0] ? TEST_PORT_MAX : 1023),
    ...more,
  });
  for (const id of ids) {
    const { target, portTable } = testPages(() => void (domain.wakes += 1));
    targets.set(id, target);
    tables.addDomain(id, portTable);
    const hypercalls = inProcessHypercalls(tables, id);
    const channels = createEventChannels({
      domain: id,
      own: target,
      portTable,
      hypercalls,
      peers: { target: (peer) => targets.get(peer), connect: async (peer) => targets.get(peer)! },
      ...more,
    });
    const portMax = more.portCountMax?.(id) ?? (id === ids[0] ? TEST_PORT_MAX : 1023);
    const domain: TestDomain = { channels, hypercalls, portMax, target, portTable, wakes: 0 };
    alive.set(id, domain);
  }
  return {
    tables,
    domains: [...alive.values()],
    run: () => {
      while ([...alive.values()].some(({ wakes }) => wakes > 0)) {
        for (const domain of alive.values()) {
          if (domain.wakes === 0) continue;
          domain.wakes = 0;
          domain.channels.dispatch();
        }
      }
    },
    destroy: (domain) => {
      tables.removeDomain(domain.channels.domain);
      targets.delete(domain.channels.domain);
      alive.delete(domain.channels.domain);
    },
  };
}
