import { type EvtchnPort, domId, evtchnPort } from '@virtlab/abi/brands';
import { XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import {
  type End,
  type Exploration,
  type ExplorationCase,
  SharedMemory,
  type Threads,
} from '@virtlab/explorer';
import type { EventChannelHypercalls, EventChannels, EventTarget, PortTableView } from '../contract.ts';
import { createEventChannels } from '../event-channels.ts';
import { PORT_TABLE_ENTRY_SIZE } from '../port-table.ts';
import { createPortTables } from '../port-tables.ts';
import { MASK_INDEX, repostPending } from '../two-level.ts';

/**
 * A port is closed under a sender and given to another one. The old sender may be anywhere in its send, or die there; its event
 * may be lost, for the receiver has said that it does not care, but never one that the new sender announces. Real port tables,
 * and the real event channels of three domains: 1 and 3 send, 2 receives.
 */
const OLD = domId(1);
const RECEIVER = domId(2);
const NEW = domId(3);
const DOMAINS = [OLD, RECEIVER, NEW] as const;
const PORT_COUNT = 8;
const DOMAIN_SIZE = XEN_PAGE_SIZE + PORT_COUNT * PORT_TABLE_ENTRY_SIZE;
/** The first half of the receiver's masks. */
const maskWord = DOMAIN_SIZE / 4 + MASK_INDEX;
const BELLS = DOMAINS.length * DOMAIN_SIZE;
const WORDS = ['doorbell', 'request', 'bound for new', 'bound for receiver', 'announced', 'seen'] as const;
/** Domain 3 has no other port. */
const NEW_PORT = evtchnPort(1);

const memory = new SharedMemory(BELLS + 4 * WORDS.length);
for (const [index, name] of WORDS.entries()) memory.name(BELLS + 4 * index, name);

function rethrow(error: unknown): never {
  throw error;
}

interface Machine {
  readonly channels: ReadonlyMap<number, EventChannels>;
  readonly port: EvtchnPort;
  readonly oldPort: EvtchnPort;
  /** What the hypervisor does when the receiver asks it to close the port, up to the new binding. */
  readonly rebind: () => void;
  readonly target: EventTarget;
}

function createMachine(): Machine {
  const targets = new Map<number, EventTarget>();
  const tables = createPortTables({
    domainExists: (domain) => targets.has(domain),
    targetOf: (domain) => targets.get(domain),
    isPrivileged: () => true,
    portCountMax: () => PORT_COUNT - 1,
  });
  const channels = new Map<number, EventChannels>();
  const bell = BELLS / 4;
  for (const [index, domain] of DOMAINS.entries()) {
    const wake = (): void => void Atomics.store(memory.region.i32, bell, 1);
    const own: EventTarget = {
      region: memory.region,
      sharedInfoOffset: index * DOMAIN_SIZE,
      wake: domain === RECEIVER ? wake : () => {},
    };
    targets.set(domain, own);
    const portTable: PortTableView = {
      region: memory.region,
      offset: index * DOMAIN_SIZE + XEN_PAGE_SIZE,
      portCount: PORT_COUNT,
    };
    tables.addDomain(domain, portTable);
    const peers = { target: (peer: number) => targets.get(peer), connect: () => Promise.reject(new Error()) };
    const hypercalls = {} as EventChannelHypercalls; // the tables are asked directly
    channels.set(
      domain,
      createEventChannels({ domain, own, portTable, hypercalls, peers, onHandlerError: rethrow }),
    );
  }
  const port = tables.allocUnbound(RECEIVER, RECEIVER, OLD);
  const oldPort = tables.bindInterdomain(OLD, RECEIVER, port);
  return {
    channels,
    port,
    oldPort,
    target: targets.get(RECEIVER)!,
    rebind: () => {
      tables.close(RECEIVER, port);
      const again = tables.allocUnbound(RECEIVER, RECEIVER, NEW);
      const newPort = tables.bindInterdomain(NEW, RECEIVER, again);
      if (again !== port || newPort !== NEW_PORT) throw new Error(`Ports ${again} and ${newPort}`);
    },
  };
}

interface Options {
  readonly dies?: boolean;
  /** Planted when false. */
  readonly reposts?: boolean;
  /** Planted: the new handler is there, but the port stays masked until it is looked at once. */
  readonly looksAtNothing?: boolean;
}

function closing({ dies = false, reposts = true, looksAtNothing = false }: Options): Exploration {
  const threads = (): Threads => {
    const { channels, port, oldPort, rebind, target } = createMachine();
    const receiver = channels.get(RECEIVER)!;
    receiver.onEvent(port, () => {});
    return {
      old: () => void channels.get(OLD)!.send(oldPort),
      new: (shared) => {
        shared.sleep('bound for new');
        shared.atomicStore('announced', 1);
        channels.get(NEW)!.send(NEW_PORT);
      },
      hypervisor: (shared) => {
        shared.sleep('request');
        rebind();
        shared.atomicStore('bound for new', 1);
        shared.atomicStore('bound for receiver', 1);
        if (dies && reposts && shared.awaitEnd('old')) repostPending(target, 0);
      },
      receiver: (shared) => {
        receiver.onEvent(port, undefined);
        shared.atomicStore('request', 1);
        shared.sleep('bound for receiver');
        const handler = (): void => shared.atomicStore('seen', shared.load('announced'));
        if (looksAtNothing) Atomics.and(memory.region.i32, maskWord, ~(1 << port));
        receiver.onEvent(port, handler);
        for (;;) {
          shared.sleep('doorbell');
          receiver.dispatch();
        }
      },
    };
  };
  const lost = (end: End): string | undefined =>
    end.word('seen') === end.word('announced') ? undefined : 'asleep, with an event announced and not seen';
  return { memory, threads, mortal: dies ? ['old'] : [], check: lost };
}

export const explorations: readonly ExplorationCase[] = [
  {
    name: '2-level: a port is closed under its sender and given to another',
    exploration: closing({}),
    bugs: [
      {
        name: 'the mask is cleared with no look at what is pending',
        exploration: closing({ looksAtNothing: true }),
      },
    ],
  },
  {
    name: '2-level: a port is closed under its sender, which is killed anywhere, and given to another',
    exploration: closing({ dies: true }),
    bugs: [{ name: 'nothing is reposted', exploration: closing({ dies: true, reposts: false }) }],
  },
];
