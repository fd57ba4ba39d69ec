import { domId } from '@virtlab/abi/brands';
import { XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import { createSharedDoorbell, NodeAioContext } from '@virtlab/aio/node';
import {
  type EventChannelHypercalls,
  type EventChannels,
  type EventTarget,
  createEventChannels,
} from '@virtlab/event-channel';
import { createPortTables } from '@virtlab/event-channel/hypervisor';
import { type Shared, SharedMemory, ThreadLoop } from '@virtlab/explorer';
import { PostedBits } from '@virtlab/hypervisor';

/**
 * Two domains on watched memory, each with its event loop, its doorbell and the way by which the other reaches it: an event
 * channel, or posted bits. All of it is the code of the domains; only the kernel and the pages' places are ours.
 */
export type Wire = 'event channel' | 'posted bits';

export const DRIVER = 0;
export const DEVICE = 1;
const NAMES = ['driver', 'device'] as const;
const DOMAINS = [domId(1), domId(0)] as const;

const PORT_COUNT = 8;
const RING_SIZE = 2048;
const SHARED_INFO = [0, 1].map((index) => RING_SIZE + index * XEN_PAGE_SIZE);
const PORT_TABLE = RING_SIZE + 2 * XEN_PAGE_SIZE;
const POSTED = PORT_TABLE + 2 * PORT_COUNT * 8;
const NOTIFY_ME = POSTED + 2 * 64;
const EVENT = NOTIFY_ME + 8;
const POSTED_BIT = 5;

export function machineMemory(): SharedMemory {
  const memory = new SharedMemory(EVENT + 8);
  for (const [index, name] of NAMES.entries()) {
    memory.name(NOTIFY_ME + 4 * index, `notifyMe ${name}`).name(EVENT + 4 * index, `event ${name}`);
    memory.name(SHARED_INFO[index]!, `upcall ${name}`).name(SHARED_INFO[index]! + 8, `selector ${name}`);
    memory.name(SHARED_INFO[index]! + 2048, `pending ${name}`).name(POSTED + 64 * index, `posted ${name}`);
    memory.name(POSTED + 64 * index + 32, `outstanding ${name}`);
  }
  return memory;
}

/** The code of one domain. */
export interface PartyCode {
  readonly start: () => void;
  /** The other domain rang. */
  readonly onRing: () => void;
  /** All that it remembers when it goes to sleep; `undefined` keeps all histories apart. */
  readonly settledAs: (() => string) | undefined;
}

/** What the code of one domain has. */
export interface Party {
  readonly aio: NodeAioContext;
  /** Rings the other domain's queue. */
  readonly ring: () => void;
  /** Runs the loop for ever. */
  run(shared: Shared, code: PartyCode): never;
  /** A task of the same process. */
  readonly schedule: (task: () => void) => void;
}

/** Both, made anew: the memory is as it was at the beginning. */
export function createParties(memory: SharedMemory, wire: Wire): readonly [driver: Party, device: Party] {
  const loops = NAMES.map((name) => new ThreadLoop(memory, `event ${name}`, { looksEarly: false }));
  const doorbells = loops.map(({ eventFd }, index) =>
    createSharedDoorbell({
      words: memory.region.i32,
      notifyMeIndex: NOTIFY_ME / 4 + index,
      eventFd: eventFd as unknown as Parameters<typeof createSharedDoorbell>[0]['eventFd'],
    }),
  );
  const links =
    wire === 'event channel' ? eventChannelLinks(memory, doorbells) : postedLinks(memory, doorbells);
  const parties = loops.map((loop, index): Party => {
    const aio = new NodeAioContext({ polling: { maxNs: 0 } }, loop.kernel);
    const link = links[index]!;
    return {
      aio,
      ring: link.ring,
      schedule: (task) => loop.schedule(task),
      run: (shared, { start, onRing, settledAs }) => {
        // The scanner of events remembers where it stopped: behind the one port, from the first time on.
        let wasRung = false;
        link.onRing(() => {
          wasRung = true;
          onRing();
        });
        const attach = (): void => {
          doorbells[index]!.receive(aio, link.poll);
          start();
        };
        return loop.run(shared, attach, settledAs && (() => `${wasRung} ${settledAs()}`));
      },
    };
  });
  return [parties[DRIVER]!, parties[DEVICE]!];
}

interface Link {
  /** As the domain's own poll of its doorbell. */
  readonly poll: () => boolean;
  readonly ring: () => void;
  readonly onRing: (handler: () => void) => void;
}

type Doorbells = readonly ReturnType<typeof createSharedDoorbell>[];

function rethrow(error: unknown): never {
  throw error;
}

function eventChannelLinks(memory: SharedMemory, doorbells: Doorbells): readonly Link[] {
  const targets = new Map<number, EventTarget>();
  const tables = createPortTables({
    domainExists: (domain) => targets.has(domain),
    targetOf: (domain) => targets.get(domain),
    isPrivileged: () => true,
    portCountMax: () => PORT_COUNT - 1,
  });
  const channels: EventChannels[] = [];
  for (const [index, domain] of DOMAINS.entries()) {
    const offset = PORT_TABLE + index * PORT_COUNT * 8;
    const portTable = { region: memory.region, offset, portCount: PORT_COUNT };
    const target: EventTarget = {
      region: memory.region,
      sharedInfoOffset: SHARED_INFO[index]!,
      wake: () => doorbells[index]!.sender.ring(),
    };
    targets.set(domain, target);
    tables.addDomain(domain, portTable);
    const peers = { target: (peer: number) => targets.get(peer), connect: () => Promise.reject(new Error()) };
    const hypercalls = {} as EventChannelHypercalls; // the tables are asked directly
    const own = { ...target, wake: () => {} };
    channels.push(
      createEventChannels({ domain, own, portTable, hypercalls, peers, onHandlerError: rethrow }),
    );
  }
  const devicePort = tables.allocUnbound(DOMAINS[DEVICE], DOMAINS[DEVICE], DOMAINS[DRIVER]);
  const driverPort = tables.bindInterdomain(DOMAINS[DRIVER], DOMAINS[DEVICE], devicePort);
  return [driverPort, devicePort].map((port, index) => ({
    poll: () => channels[index]!.hasPending() && channels[index]!.dispatch() > 0,
    ring: () => void channels[index]!.send(port),
    onRing: (handler) => channels[index]!.onEvent(port, handler),
  }));
}

/** As between a domain and its device model: doorbells one way, vectors the other. */
function postedLinks(memory: SharedMemory, doorbells: Doorbells): readonly Link[] {
  const areas = [0, 1].map((index) => new PostedBits(memory.region, POSTED + 64 * index));
  return [0, 1].map((own): Link => {
    const other = 1 - own;
    let handle = (): void => {};
    return {
      poll: () => areas[own]!.hasOutstanding() && areas[own]!.drain(() => handle()) > 0,
      ring: () => {
        areas[other]!.post(POSTED_BIT);
        doorbells[other]!.sender.ring();
      },
      onRing: (handler) => {
        handle = handler;
      },
    };
  });
}
