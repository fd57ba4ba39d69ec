import type { DomId } from '@virtlab/abi/brands';
import { EVTCHN_2L_NR_CHANNELS } from '@virtlab/abi/event-channel';
import { XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import { memoryRegion } from '@virtlab/guest-memory';
import type { EventChannelHypercalls, EventChannels, EventTarget, PortTableView } from './contract.ts';
import { type EventChannelsOptions, createEventChannels } from './event-channels.ts';
import { inProcessHypercalls } from './in-process-hypercalls.ts';
import { PORT_TABLE_ENTRY_SIZE } from './port-table.ts';
import { type PortTables, createPortTables } from './port-tables.ts';

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

const PORT_TABLE_OFFSET = XEN_PAGE_SIZE;

/** A shared_info page followed by a port table, both zero. */
export function testPages(wake: () => void): {
  readonly target: EventTarget;
  readonly portTable: PortTableView;
} {
  const region = memoryRegion(
    new SharedArrayBuffer(PORT_TABLE_OFFSET + EVTCHN_2L_NR_CHANNELS * PORT_TABLE_ENTRY_SIZE),
  );
  return {
    target: { region, sharedInfoOffset: 0, wake },
    portTable: { region, offset: PORT_TABLE_OFFSET, portCount: EVTCHN_2L_NR_CHANNELS },
  };
}

export function createTestMachine(
  ids: readonly DomId[],
  more: Pick<Partial<EventChannelsOptions>, 'onHandlerError'> = {},
): TestMachine {
  const alive = new Map<DomId, TestDomain>();
  const targets = new Map<DomId, EventTarget>();
  const tables = createPortTables({
    domainExists: (domain) => targets.has(domain),
    targetOf: (domain) => targets.get(domain),
    isPrivileged: (domain) => domain === ids[0],
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
    const portMax = id === ids[0] ? EVTCHN_2L_NR_CHANNELS - 1 : 1023;
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
