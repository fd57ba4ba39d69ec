import { domId } from '@virtlab/abi/brands';
import { EVTCHN_FIFO_PRIORITY_DEFAULT, SHARED_INFO } from '@virtlab/abi/event-channel';
import { DOMID_XEN, XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import {
  type End,
  type Exploration,
  type Shared,
  SharedMemory,
  type Thread,
  type Threads,
  rounds,
} from '@virtlab/explorer';
import type { EventChannelHypercalls, EventTarget } from '../contract.ts';
import { type DeliveryArea, deliveryArea, deliveryAreaSize } from '../delivery-area.ts';
import { postFifo } from '../fifo-post.ts';
import { completeFifo } from '../fifo-recovery.ts';
import { GuestFifo } from '../guest-fifo.ts';
import { PORT_TABLE_ENTRY_SIZE } from '../port-table.ts';
import { createPortTables } from '../port-tables.ts';
import type { PortTables } from '../port-tables-contract.ts';
import { upcallIndex } from '../two-level.ts';

/**
 * The FIFO ABI as it stands, over watched memory: a hypervisor with its port tables, a domain that sleeps until its doorbell was
 * rung, and senders in processes of their own. What an event announces is a word: `sent` before the send, copied to `seen`
 * by the handler.
 */
export const RECEIVER = domId(2);
export const PORTS = [1, 2, 3] as const;
const PORT_COUNT = 32;
const TABLE_OFFSET = XEN_PAGE_SIZE;
const AREA_OFFSET = TABLE_OFFSET + PORT_COUNT * PORT_TABLE_ENTRY_SIZE;
export const FIRST_FRAME: number = Math.ceil((AREA_OFFSET + deliveryAreaSize(PORT_COUNT, 1)) / XEN_PAGE_SIZE);
const WORDS_OFFSET = (FIRST_FRAME + 2) * XEN_PAGE_SIZE;
const DOORBELL = WORDS_OFFSET / 4;
const SENT = DOORBELL + 1;
const SEEN = SENT + 8;

export const memory = new SharedMemory(WORDS_OFFSET + 128);
export const words: Int32Array = memory.region.i32;
export const area: DeliveryArea = deliveryArea(AREA_OFFSET, PORT_COUNT, 1);
export const target: EventTarget = {
  region: memory.region,
  sharedInfoOffset: 0,
  wake: () => void Atomics.store(words, DOORBELL, 1),
  delivery: area,
  eventFrames: { firstFrame: FIRST_FRAME, frameCount: 2 },
};
/** Where port 0's event word is. */
export const ARRAY: number = ((FIRST_FRAME + 1) * XEN_PAGE_SIZE) / 4;
export const CONTROL: number = (FIRST_FRAME * XEN_PAGE_SIZE) / 4;

memory
  .name(DOORBELL * 4, 'doorbell')
  .name(upcallIndex(target, 0), 'upcall')
  .name(CONTROL * 4, 'ready');
memory
  .name(area.lock * 4, 'lock')
  .name(area.journal * 4, 'journal')
  .name(area.abi * 4, 'abi');
memory
  .name(area.summary * 4, 'summary')
  .name(area.deferred * 4, 'deferred')
  .name(area.pages * 4, 'page 0');
memory.name((SENT + 7) * 4, 'page is there').name((SEEN + 7) * 4, 'moved');
for (let priority = 0; priority < 16; priority++) {
  memory.name((CONTROL + 2 + priority) * 4, `head ${priority}`);
  memory.name((area.tails + priority) * 4, `tail ${priority}`);
}
for (const port of PORTS) {
  memory.name((ARRAY + port) * 4, `word ${port}`);
  memory.name((SENT + port) * 4, `sent ${port}`).name((SEEN + port) * 4, `seen ${port}`);
}
if (SHARED_INFO.size > XEN_PAGE_SIZE) throw new Error('shared_info is more than a page');

export function handle(port: number): boolean {
  Atomics.store(words, SEEN + port, Atomics.load(words, SENT + port));
  return true;
}

export type Post = (port: number, from: number) => void;
export const post: Post = (port, from) => postFifo(target, area, port, from);

export interface Machine {
  readonly tables: PortTables;
  readonly guest: GuestFifo;
  /** Wakes up once: what a domain does when its doorbell was rung. */
  readonly dispatch: () => void;
}

export interface MachineOptions {
  /** Queues of ports that are not of the default priority. */
  readonly priorities?: Readonly<Record<number, number>>;
  readonly masked?: readonly number[];
  /** Nothing is switched yet, or the page of the event array is missing. Default: all is ready. */
  readonly state?: 'ready' | 'without page' | '2l';
  /** Ports with an event that was announced and posted before. */
  readonly posted?: readonly number[];
  /** Ports that get another priority after that. */
  readonly moved?: Readonly<Record<number, number>>;
}

/** Always the same, so that threads can be run again. */
export function createMachine({
  priorities = {},
  masked = [],
  state = 'ready',
  posted = [],
  moved = {},
}: MachineOptions = {}): Machine {
  const tables = createPortTables({
    domainExists: () => true,
    targetOf: () => target,
    isPrivileged: () => true,
  });
  tables.addDomain(RECEIVER, { region: memory.region, offset: TABLE_OFFSET, portCount: PORT_COUNT });
  const hypercalls = {} as EventChannelHypercalls; // the tables are asked directly
  const guest = new GuestFifo({ domain: RECEIVER, own: target, vcpuCount: 1, hypercalls, run: handle });
  for (const _ of PORTS) tables.allocUnbound(RECEIVER, RECEIVER, domId(1));
  for (const port of PORTS) if (!masked.includes(port)) guest.unmask(port);
  if (state !== '2l') tables.initControl(RECEIVER, FIRST_FRAME, 0, 0);
  if (state === 'ready') tables.expandArray(RECEIVER, FIRST_FRAME + 1);
  for (const port of PORTS) {
    const route = priorities[port] ?? EVTCHN_FIFO_PRIORITY_DEFAULT;
    memory.region.u16[area.route + port] = route;
  }
  for (const port of posted) sender(HYPERVISOR, port, 1)();
  for (const [port, priority] of Object.entries(moved))
    memory.region.u16[area.route + Number(port)] = priority;
  const { u8 } = memory.region;
  const dispatch = (): void => {
    while (Atomics.load(u8, upcallIndex(target, 0)) !== 0) {
      Atomics.store(u8, upcallIndex(target, 0), 0);
      guest.round(0);
      if (guest.hasLeft(0)) Atomics.store(u8, upcallIndex(target, 0), 1);
    }
  };
  return { tables, guest, dispatch };
}

export function addPage(tables: PortTables): void {
  tables.expandArray(RECEIVER, FIRST_FRAME + 1);
}

/** Announces and sends `count` events as domain `id`. */
export function sender(id: number, port: number, count: number, send: Post = post): () => void {
  return () => {
    for (let value = 1; value <= count; value++) {
      Atomics.add(words, SENT + port, 1);
      send(port, id);
    }
  };
}

/**
 * Sleeps and dispatches for ever, after it did `first`. A dispatch ends with nothing kept for the next one, so each begins
 * with a new machine, and what came before is one state.
 */
export function domain(dispatch: () => void, first?: (shared: Shared) => void): Thread {
  return rounds(first === undefined, (shared: Shared, isUp: boolean) => {
    if (!isUp) first!(shared);
    else {
      shared.sleep('doorbell');
      dispatch();
    }
    return true;
  });
}

export function completeAll(dead: number): void {
  completeFifo(target, area, dead, PORTS.length + 1);
}

/** Who the hypervisor is as a sender. */
export const HYPERVISOR: number = DOMID_XEN;

/** Nobody can move any more, so the domain sleeps: everything announced must have been seen. */
export function lost(end: End): string | undefined {
  for (const port of PORTS) {
    const [sent, seen] = [end.word(`sent ${port}`), end.word(`seen ${port}`)];
    // A sender that was killed may have announced and not sent.
    if (sent !== seen && !end.killed.includes(`mortal ${port}`))
      return `asleep, port ${port}: ${sent} was announced, ${seen} seen`;
  }
  return undefined;
}

export function exploration(
  threads: () => Threads,
  more: Pick<Exploration, 'mortal' | 'planted' | 'stateLimit'> = {},
): Exploration {
  return { memory, threads, check: lost, ...more };
}
