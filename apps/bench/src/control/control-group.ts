import { createBlkDriver } from '@virtlab/virtio-blk';
import { createDisk, type DiskPlan } from '../blk/disk-backend.ts';
import { compare } from '../compare.ts';
import { type BenchPlan, type Contender, elapsedNs } from '../contender.ts';
import { BUSES, type Lab, guestOnEachBus, startLab } from '../lab/lab.ts';
import { type MemoryLink, createMemoryLink } from '../lab/memory-link.ts';
import { startSocketEcho } from '../peers/socket-peer.ts';
import type { ComparisonReport, GroupText } from '../report/report.ts';
import { startConnectionPeer } from './connection-peer.ts';
import type { ControlRequest, StoreOperation } from './control-messages.ts';

export const CONTROL_TEXT: GroupText = {
  title: 'Control plane',
  method: [
    '**Bring-up**: the driver of a disk is initialised (reset, features, queue, configuration, DRIVER_OK) and closed again (reset), over a link that is connected; over **memory** in one thread, the others with the driver in a domU and the device in domain 0. Counted are the requests to xenstore and the accesses that trapped to the device model; watch events are no requests. **Peer**: a connection to another process opened on a Unix socket, 4 bytes there and back, and closed.',
    'A **xenstore request** goes from a PV domain through its ring to xenstored in domain 0, one at a time or 16 at once; a transaction is three requests. **Peer**: 4 bytes there and back over a Unix socket, as many under way.',
    "**Published** figures, in nanoseconds, are of xenstored 4.17 in C: for a single request over the ring of a domain by a client in Python, with FIFOs for event channels; 16 at once and a transaction over its Unix socket. They are there for scale: another machine's state, and another client.",
  ],
  findings: [
    'Over PCI a register is a trap, and no more; over the native xenbus profile the steps of the handshake are requests to xenstore, and the states of both ends watch events in between. The register page takes a round trip of an event channel for each register.',
    'A single request to xenstore waits for two wake-ups, its own work is some microseconds. Pipelined, requests share them.',
  ],
};

const STORE_DEPTH = 16;

export async function runControl(plan: BenchPlan): Promise<ComparisonReport[]> {
  const disk: DiskPlan = { backend: 'null', path: '' };
  await using lab = await startLab({
    dom0: 'blk/blk-dom0',
    guest: 'control/control-guest',
    guests: guestOnEachBus(disk),
  });
  await using memory = createMemoryLink(await createDisk(disk));
  return [await bringUp(plan, lab, memory), ...(await xenstore(plan, lab))];
}

async function bringUp(plan: BenchPlan, lab: Lab, memory: MemoryLink): Promise<ComparisonReport> {
  await using peer = await startConnectionPeer(plan.folder);
  const contenders = [
    inMemory(memory),
    ...BUSES.map(([bus, words]) =>
      lab.contender(`virtlab, ${words}`, bus, (count): ControlRequest => ({ op: 'bring-up', count })),
    ),
    peer.contender,
  ];
  return await compare({ title: 'Bring-up of a disk', operation: 'bring-up', contenders }, plan);
}

function inMemory({ link, aio }: MemoryLink): Contender {
  return {
    name: 'virtlab, memory',
    isPeer: false,
    pids: [],
    run: async (count) => {
      const start = performance.now();
      for (let done = 0; done < count; done += 1) await (await createBlkDriver(link, { aio })).close();
      return { operationCount: count, elapsedNs: elapsedNs(start), doorbells: { kicks: 0, calls: 0 } };
    },
  };
}

interface StoreRow {
  readonly what: StoreOperation;
  readonly depth: number;
  readonly published: string;
}

const STORE_ROWS: readonly StoreRow[] = [
  { what: 'read', depth: 1, published: '45,000–71,000' },
  { what: 'write', depth: 1, published: '45,000–62,000' },
  { what: 'transaction', depth: 1, published: '67,000–87,000' },
  { what: 'read', depth: STORE_DEPTH, published: '14,500' },
  { what: 'write', depth: STORE_DEPTH, published: '15,600' },
];

async function xenstore(plan: BenchPlan, lab: Lab): Promise<ComparisonReport[]> {
  await using socket = await startSocketEcho(plan.folder);
  const reports: ComparisonReport[] = [];
  for (const depth of [1, STORE_DEPTH]) {
    const rows = STORE_ROWS.filter((row) => row.depth === depth);
    const contenders = [
      ...rows.map(({ what, published }) => ({
        ...lab.contender(`virtlab, ${what}`, 'xenbus', (count): ControlRequest => ({
          op: 'xenstore',
          what,
          depth,
          count,
        })),
        published,
      })),
      socket.contender({ name: 'Unix socket', window: depth, isBatched: true }),
    ];
    const title = `Xenstore, ${depth} under way`;
    reports.push(await compare({ title, operation: 'operation', contenders, runShare: 0.5 }, plan));
  }
  return reports;
}
