import { type EvtchnPort, domId, evtchnPort } from '@virtlab/abi/brands';
import { memoryRegion } from '@virtlab/guest-memory';
import { describe, expect, it, vi } from 'vitest';
import type { EventTarget } from './contract.ts';
import { createEventChannels } from './event-channels.ts';
import { inProcessHypercalls } from './in-process-hypercalls.ts';
import { createPortTables } from './port-tables.ts';
import { type TestDomain, createTestMachine, testPages } from './testing.ts';
import { MASK_INDEX, PENDING_INDEX, setPending } from './two-level.ts';

const A = domId(1);
const B = domId(2);

/** Domain A, whose peers are connected when the test says so, and domain B. */
function createLazyMachine() {
  const pages = { [A]: testPages(() => {}), [B]: testPages(() => {}) };
  const tables = createPortTables({
    domainExists: () => true,
    targetOf: (domain) => pages[domain]!.target,
    isPrivileged: () => false,
  });
  for (const domain of [A, B]) tables.addDomain(domain, pages[domain]!.portTable);
  const connected = new Map<number, EventTarget>();
  const connections: PromiseWithResolvers<EventTarget>[] = [];
  const make = (domain: typeof A) =>
    createEventChannels({
      domain,
      own: pages[domain]!.target,
      portTable: pages[domain]!.portTable,
      hypercalls: inProcessHypercalls(tables, domain),
      peers: {
        target: (peer) => connected.get(peer),
        connect: () => {
          const connection = Promise.withResolvers<EventTarget>();
          connections.push(connection);
          return connection.promise;
        },
      },
    });
  const [a, b] = [make(A), make(B)];
  return { tables, pages, connected, connections, a, b };
}

async function channel({ a, b }: ReturnType<typeof createLazyMachine>) {
  const bPort = await b.allocUnbound(A);
  const aPort = await a.bindInterdomain(B, bPort);
  const ran = { a: 0, b: 0 };
  a.onEvent(aPort, () => void (ran.a += 1));
  b.onEvent(bPort, () => void (ran.b += 1));
  a.dispatch();
  ran.a = 0;
  return { aPort, bPort, ran };
}

describe('sending to a peer that is not connected', () => {
  it('starts one connect for all sends, and delivers each port once when it resolves', async () => {
    const machine = createLazyMachine();
    const { a, b, connections, pages } = machine;
    const first = await channel(machine);
    const second = await channel(machine);
    for (let sent = 0; sent < 3; sent++) {
      expect(a.send(first.aPort)).toBe(true);
      expect(a.send(second.aPort)).toBe(true);
    }
    expect(connections).toHaveLength(1);
    expect(b.hasPending()).toBe(false);
    connections[0]!.resolve(pages[B]!.target);
    await vi.waitFor(() => expect(b.hasPending()).toBe(true));
    expect(b.dispatch()).toBe(2);
    expect([first.ran.b, second.ran.b]).toEqual([1, 1]);
  });

  it('ignores that the peer died before it was connected, and connects again for the next send', async () => {
    const machine = createLazyMachine();
    const { a, b, connections, pages } = machine;
    const { aPort } = await channel(machine);
    expect(a.send(aPort)).toBe(true);
    connections[0]!.reject(new Error('gone'));
    await Promise.resolve();
    await Promise.resolve();
    expect(a.send(aPort)).toBe(true);
    expect(connections).toHaveLength(2);
    connections[1]!.resolve(pages[B]!.target);
    await vi.waitFor(() => expect(b.dispatch()).toBe(1));
  });

  it('drops the send if the port was closed, or its peer closed, meanwhile', async () => {
    const machine = createLazyMachine();
    const { a, b, connections, pages, connected } = machine;
    const closed = await channel(machine);
    const orphaned = await channel(machine);
    a.send(closed.aPort);
    a.send(orphaned.aPort);
    await a.close(closed.aPort);
    await b.close(orphaned.bPort);
    connected.set(B, pages[B]!.target);
    connections[0]!.resolve(pages[B]!.target);
    await connections[0]!.promise;
    await Promise.resolve();
    expect(b.dispatch()).toBe(0);
    expect(closed.ran.b).toBe(0);
    const { u32 } = pages[B]!.target.region;
    expect(u32.subarray(PENDING_INDEX, MASK_INDEX).every((word) => word === 0)).toBe(true);
  });

  it('does not connect to send to itself', async () => {
    const machine = createLazyMachine();
    const ipi = await inProcessHypercalls(machine.tables, A).bindIpi(0);
    let ran = 0;
    machine.a.onEvent(ipi, () => void (ran += 1));
    machine.a.send(ipi);
    expect(machine.a.dispatch()).toBe(1);
    expect(ran).toBe(1);
    expect(machine.connections).toHaveLength(0);
  });
});

async function connect(left: TestDomain, right: TestDomain, handler: () => void): Promise<EvtchnPort> {
  const port = await right.channels.allocUnbound(left.channels.domain);
  const sender = await left.channels.bindInterdomain(right.channels.domain, port);
  right.channels.onEvent(port, handler);
  return sender;
}

describe('handlers', () => {
  it('one that throws does not keep the others from running; what it threw is handed over with its port', async () => {
    const errors: unknown[] = [];
    const machine = createTestMachine([A, B], {
      onHandlerError: (error, port) => void errors.push([error, port]),
    });
    const [left, right] = machine.domains as [TestDomain, TestDomain];
    const failure = new Error('broken handler');
    let ran = 0;
    const bad = await connect(left, right, () => {
      throw failure;
    });
    const good = await connect(left, right, () => void (ran += 1));
    left.channels.send(bad);
    left.channels.send(good);
    expect(right.channels.dispatch()).toBe(2);
    expect({ ran, errors }).toEqual({ ran: 1, errors: [[failure, 1]] });
  });

  it('by default what a handler throws is thrown again in a microtask', async () => {
    const queued: (() => void)[] = [];
    const spy = vi.spyOn(globalThis, 'queueMicrotask').mockImplementation((task) => void queued.push(task));
    try {
      const [left, right] = createTestMachine([A, B]).domains as [TestDomain, TestDomain];
      const sender = await connect(left, right, () => {
        throw new Error('broken handler');
      });
      left.channels.send(sender);
      expect(right.channels.dispatch()).toBe(1);
      expect(queued).toHaveLength(1);
      expect(queued[0]).toThrow('broken handler');
    } finally {
      spy.mockRestore();
    }
  });

  it('a dispatch from inside a handler runs what is still pending, and nothing twice', async () => {
    const machine = createTestMachine([A, B]);
    const [left, right] = machine.domains as [TestDomain, TestDomain];
    const order: number[] = [];
    const senders = [
      await connect(left, right, () => {
        order.push(0);
        right.channels.dispatch();
      }),
      await connect(left, right, () => void order.push(1)),
      await connect(left, right, () => void order.push(2)),
    ];
    for (const sender of senders) left.channels.send(sender);
    machine.run();
    expect(order).toEqual([0, 1, 2]);
  });

  it('an event that was on its way to a closed port reaches the next owner of the number once: handlers bear that', async () => {
    const machine = createTestMachine([A, B]);
    const [left, right] = machine.domains as [TestDomain, TestDomain];
    await connect(left, right, () => {});
    await right.channels.close(evtchnPort(1));
    setPending(right.target, 1, 0);
    expect(right.channels.dispatch()).toBe(0);
    let ran = 0;
    expect(await right.channels.allocUnbound(A)).toBe(1);
    right.channels.onEvent(evtchnPort(1), () => void (ran += 1));
    machine.run();
    expect(ran).toBe(1);
  });
});

describe('misuse', () => {
  it.each([0, -1, 4096, Number.NaN])('mask, unmask and onEvent throw RangeError for port %d', (port) => {
    const { channels } = createTestMachine([A]).domains[0]!;
    expect(() => channels.mask(port as EvtchnPort)).toThrow(RangeError);
    expect(() => channels.unmask(port as EvtchnPort)).toThrow(RangeError);
    expect(() => channels.onEvent(port as EvtchnPort, () => {})).toThrow(RangeError);
    expect(channels.send(port as EvtchnPort)).toBe(false);
  });

  it('views that do not lie in their region are refused', () => {
    const { target, portTable } = testPages(() => {});
    const { hypercalls } = createTestMachine([A]).domains[0]!;
    const peers = { target: () => undefined, connect: () => Promise.reject(new Error('nobody')) };
    const make = (own: EventTarget, table: typeof portTable) =>
      createEventChannels({ domain: A, own, portTable: table, hypercalls, peers });
    const small = memoryRegion(new ArrayBuffer(4096));
    expect(() => make({ ...target, region: small, sharedInfoOffset: 2048 }, portTable)).toThrow(RangeError);
    expect(() => make({ ...target, sharedInfoOffset: 4 }, portTable)).toThrow(RangeError);
    expect(() => make(target, { region: small, offset: 0, portCount: 513 })).toThrow(RangeError);
    expect(() => make(target, { ...portTable, offset: portTable.offset + 4 })).toThrow(RangeError);
  });

  it('a port table with a port beyond the ABI leads nowhere', async () => {
    const machine = createTestMachine([A, B]);
    const [left, right] = machine.domains as [TestDomain, TestDomain];
    const port = await right.channels.allocUnbound(A);
    const sender = await left.channels.bindInterdomain(B, port);
    left.portTable.region.u32[left.portTable.offset / 4 + sender * 2] = (B << 17) | 4096;
    const before = right.target.region.u32.slice();
    expect(left.channels.send(sender)).toBe(false);
    expect(right.target.region.u32).toEqual(before);
  });
});
