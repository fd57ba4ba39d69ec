import { type EvtchnPort, domId, evtchnPort } from '@virtlab/abi/brands';
import {
  EVTCHN_FIFO_EVENT_WORDS_PER_PAGE,
  EVTCHN_FIFO_MAX_EVENT_ARRAY_PAGES,
  EVTCHN_FIFO_NR_CHANNELS,
  VIRQ_DEBUG,
  VIRQ_DOM_EXC,
} from '@virtlab/abi/event-channel';
import { XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import { memoryRegion } from '@virtlab/guest-memory';
import { describe, expect, it } from 'vitest';
import type { EventChannelError, EventTarget } from './contract.ts';
import { LOCK_MORE, deliveryArea, deliveryAreaSize } from './delivery-area.ts';
import { createEventChannels } from './event-channels.ts';
import { LOOKS_MAX, postFifo } from './fifo-post.ts';
import { BUSY, LINK, LINKED, PENDING, eventWordIndex } from './fifo-words.ts';
import { inProcessHypercalls } from './in-process-hypercalls.ts';
import { PORT_TABLE_ENTRY_SIZE } from './port-table.ts';
import { createPortTables } from './port-tables.ts';
import { type TestDomain, createTestMachine } from './testing.ts';

const A = domId(1);
const B = domId(2);

function codeOf(operation: () => unknown): string {
  try {
    operation();
  } catch (error) {
    return (error as EventChannelError).code;
  }
  return 'none';
}

/** A domain with room for everything that the ABI has, its own peer. */
function createLargeDomain(vcpuMax: number = 1) {
  const tableOffset = XEN_PAGE_SIZE;
  const areaOffset = tableOffset + EVTCHN_FIFO_NR_CHANNELS * PORT_TABLE_ENTRY_SIZE;
  const size = deliveryAreaSize(EVTCHN_FIFO_NR_CHANNELS, vcpuMax);
  const firstFrame = Math.ceil((areaOffset + size) / XEN_PAGE_SIZE);
  const frameCount = 1 + EVTCHN_FIFO_MAX_EVENT_ARRAY_PAGES;
  const region = memoryRegion(new SharedArrayBuffer((firstFrame + frameCount) * XEN_PAGE_SIZE));
  const own: EventTarget = {
    region,
    sharedInfoOffset: 0,
    wake: () => {},
    delivery: deliveryArea(areaOffset, EVTCHN_FIFO_NR_CHANNELS, vcpuMax),
    eventFrames: { firstFrame, frameCount },
  };
  const tables = createPortTables({
    domainExists: (domain) => domain === A,
    targetOf: () => own,
    isPrivileged: () => true,
    vcpuCount: () => vcpuMax,
  });
  const portTable = { region, offset: tableOffset, portCount: EVTCHN_FIFO_NR_CHANNELS };
  tables.addDomain(A, portTable);
  const channels = createEventChannels({
    domain: A,
    own,
    portTable,
    hypercalls: inProcessHypercalls(tables, A),
    peers: { target: () => own, connect: () => Promise.reject(new Error('nobody')) },
  });
  return { own, tables, channels, firstFrame, frameCount };
}

async function fifoPair(): Promise<{
  readonly machine: ReturnType<typeof createTestMachine>;
  readonly left: TestDomain;
  readonly right: TestDomain;
}> {
  const machine = createTestMachine([A, B]);
  const [left, right] = machine.domains as [TestDomain, TestDomain];
  await right.channels.useFifo();
  return { machine, left, right };
}

async function channelTo(
  left: TestDomain,
  right: TestDomain,
  handler: () => void,
): Promise<[EvtchnPort, EvtchnPort]> {
  const to = await right.channels.allocUnbound(left.channels.domain);
  const from = await left.channels.bindInterdomain(right.channels.domain, to);
  right.channels.onEvent(to, handler);
  left.channels.dispatch();
  return [from, to];
}

/** The delivery area of a domain with all ports, each with an event word, as it has scribbled it: nobody holds the lock. */
function scribbledArea() {
  const vcpuMax = 1;
  const place = XEN_PAGE_SIZE;
  const area = deliveryArea(place, EVTCHN_FIFO_NR_CHANNELS, vcpuMax);
  const end = Math.ceil((place + deliveryAreaSize(EVTCHN_FIFO_NR_CHANNELS, vcpuMax)) / XEN_PAGE_SIZE);
  const region = memoryRegion(new SharedArrayBuffer((end + 2) * XEN_PAGE_SIZE));
  const words = region.i32;
  const [control, page] = [(end * XEN_PAGE_SIZE) / 4, ((end + 1) * XEN_PAGE_SIZE) / 4];
  words[area.abi] = 1;
  words[area.control] = control;
  words.fill(page, area.pages, area.pages + EVTCHN_FIFO_MAX_EVENT_ARRAY_PAGES);
  words[area.lock] = LOCK_MORE;
  const target: EventTarget = { region, sharedInfoOffset: 0, wake: () => {}, delivery: area };
  return { region, area, post: (port: number) => postFifo(target, area, port, 7) };
}

describe('the size of the ABI', () => {
  it('131071 ports can be open and heard; the next fails with ENOSPC', async () => {
    const { tables, channels } = createLargeDomain();
    await channels.useFifo();
    const ports: EvtchnPort[] = [];
    for (let port = 1; port < EVTCHN_FIFO_NR_CHANNELS; port++) ports.push(tables.bindIpi(A, 0));
    expect(ports.at(-1)).toBe(EVTCHN_FIFO_NR_CHANNELS - 1);
    expect(codeOf(() => tables.bindIpi(A, 0))).toBe('ENOSPC');
    const heard: number[] = [];
    const some = [1, 1023, 1024, 4095, 4096, 65535, 65536, 131_071].map(evtchnPort);
    for (const port of some) channels.onEvent(port, () => void heard.push(port));
    await channels.setPriority(evtchnPort(1), 7);
    for (let turn = 0; turn < 200; turn++) await Promise.resolve();
    for (const port of some.toReversed()) channels.send(port);
    expect(channels.dispatch()).toBe(some.length);
    expect(heard).toEqual(some.toReversed());
  });

  it('under the 2-level ABI a domain with room for more has 4095 ports', () => {
    const { tables } = createLargeDomain();
    for (let port = 1; port < 4096; port++) tables.bindIpi(A, 0);
    expect(codeOf(() => tables.bindIpi(A, 0))).toBe('ENOSPC');
  });

  it('expand_array fails with ENOSPC beyond 128 pages, before a bad frame', () => {
    const { tables, firstFrame } = createLargeDomain();
    expect(tables.initControl(A, firstFrame, 0, 0)).toBe(17);
    for (let page = 0; page < EVTCHN_FIFO_MAX_EVENT_ARRAY_PAGES; page++)
      tables.expandArray(A, firstFrame + 1 + page);
    expect(codeOf(() => tables.expandArray(A, 0))).toBe('ENOSPC');
    expect(EVTCHN_FIFO_MAX_EVENT_ARRAY_PAGES * EVTCHN_FIFO_EVENT_WORDS_PER_PAGE).toBe(
      EVTCHN_FIFO_NR_CHANNELS,
    );
  });
});

describe('init_control', () => {
  it('a first one that fails leaves the 2-level ABI; one for each vCPU', () => {
    const { tables, firstFrame } = createLargeDomain(2);
    expect(codeOf(() => tables.initControl(A, 0, 0, 0))).toBe('EINVAL');
    expect(codeOf(() => tables.initControl(A, firstFrame + 0.5, 0, 0))).toBe('EINVAL');
    expect(tables.abiOf(A)).toBe('2l');
    expect(tables.initControl(A, firstFrame, 128, 1)).toBe(17);
    expect(tables.abiOf(A)).toBe('fifo');
    expect(codeOf(() => tables.initControl(A, firstFrame, 256, 1))).toBe('EINVAL');
    expect(tables.initControl(A, firstFrame, 4024, 0)).toBe(17);
  });

  it('an event for a vCPU without a control block is dropped', () => {
    const { tables, own, firstFrame } = createLargeDomain(2);
    tables.initControl(A, firstFrame, 0, 0);
    tables.expandArray(A, firstFrame + 1);
    const port = tables.bindIpi(A, 1);
    postFifo(own, own.delivery!, port, A);
    expect(own.region.i32[eventWordIndex(own.region.i32, own.delivery!, port)]).toBe(0);
  });

  it('a domain without event frames has no FIFO ABI: EOPNOTSUPP', async () => {
    const { own, tables } = createLargeDomain();
    const region = memoryRegion(new SharedArrayBuffer(2 * XEN_PAGE_SIZE));
    const bare: EventTarget = { region, sharedInfoOffset: 0, wake: () => {} };
    const plain = createPortTables({
      domainExists: () => true,
      targetOf: () => bare,
      isPrivileged: () => false,
    });
    const portTable = { region, offset: XEN_PAGE_SIZE, portCount: 64 };
    plain.addDomain(A, portTable);
    expect(codeOf(() => plain.initControl(A, 1, 0, 0))).toBe('EOPNOTSUPP');
    expect(own.eventFrames).toBeDefined();
    expect(tables.abiOf(B)).toBeUndefined();
    const channels = createEventChannels({
      domain: A,
      own: bare,
      portTable,
      hypercalls: inProcessHypercalls(plain, A),
      peers: { target: () => bare, connect: () => Promise.reject(new Error('nobody')) },
    });
    await expect(channels.useFifo()).rejects.toMatchObject({ code: 'EOPNOTSUPP' });
    expect(channels.abi).toBe('2l');
  });
});

describe('the lock of the queues', () => {
  it('who finds it taken leaves the event to its holder and does not wait', async () => {
    const { left, right } = await fifoPair();
    let ran = 0;
    const [from] = await channelTo(left, right, () => void (ran += 1));
    const { region, delivery } = right.target;
    region.i32[delivery!.lock] = 78; // domain 77 links something
    left.channels.send(from);
    expect(region.i32[delivery!.lock]).toBe(78 | LOCK_MORE);
    expect(right.channels.dispatch()).toBe(0);
    expect(ran).toBe(0);
  });

  it('completeSends takes it over from the dead domain, with what others left, and from nobody else', async () => {
    const { machine, left, right } = await fifoPair();
    let ran = 0;
    const [from] = await channelTo(left, right, () => void (ran += 1));
    const { region, delivery } = right.target;
    region.i32[delivery!.lock] = 78;
    left.channels.send(from);
    machine.tables.completeSends(domId(76));
    expect([region.i32[delivery!.lock], ran]).toEqual([78 | LOCK_MORE, 0]);
    machine.tables.completeSends(domId(77));
    machine.run();
    expect([region.i32[delivery!.lock], ran]).toEqual([0, 1]);
  });

  it('reset fails with EAGAIN while somebody holds it', async () => {
    const { machine, right } = await fifoPair();
    right.target.region.i32[right.target.delivery!.lock] = 78;
    expect(codeOf(() => machine.tables.reset(B, B))).toBe('EAGAIN');
    right.target.region.i32[right.target.delivery!.lock] = 0;
    machine.tables.reset(B, B);
    expect(machine.tables.abiOf(B)).toBe('2l');
  });

  it('who finds more left than a sender could have left looks at so many ports, and leaves the rest to the next', () => {
    const { region, area, post } = scribbledArea();
    const leftBits = (): number => {
      let count = 0;
      for (let index = area.deferred; index < area.deferred + area.portCount / 32; index += 1)
        for (let bits = region.i32[index]!; bits !== 0; bits &= bits - 1) count += 1;
      return count;
    };
    region.i32.fill(-1, area.summary, area.deferred + area.portCount / 32);
    let before = leftBits();
    expect(before).toBe(area.portCount);
    for (let send = 0; send < area.portCount / LOOKS_MAX; send += 1) {
      expect(region.i32[area.lock]).toBe(LOCK_MORE);
      post(1 + send);
      const after = leftBits();
      expect(before - after).toBeGreaterThanOrEqual(LOOKS_MAX);
      expect(before - after).toBeLessThan(LOOKS_MAX + 64);
      before = after;
    }
    post(100);
    expect([leftBits(), region.i32[area.lock]]).toEqual([0, 0]);
  });

  it('a receiver that scribbles into its area makes senders neither throw nor hang', async () => {
    const { left, right } = await fifoPair();
    const [from] = await channelTo(left, right, () => {});
    const { region, delivery } = right.target;
    const area = delivery!;
    let state = 12_345;
    const random = (): number => (state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0);
    for (let round = 0; round < 20_000; round++) {
      const at = area.abi + (random() % (area.deferred + 40 - area.abi));
      Atomics.store(region.i32, at, random() % 3 === 0 ? random() : random() % 4096);
      if (at !== area.abi) Atomics.store(region.i32, area.abi, 1);
      expect(left.channels.send(from)).toBe(true);
      if (round % 64 === 0) right.channels.dispatch();
    }
  });
});

describe('event words', () => {
  it('a predecessor that is busy is freed when its sender died there', async () => {
    const { machine, left, right } = await fifoPair();
    const order: number[] = [];
    const [first, firstTo] = await channelTo(left, right, () => void order.push(1));
    const [, secondTo] = await channelTo(left, right, () => void order.push(2));
    left.channels.send(first);
    const { region, delivery } = right.target;
    const { i32: words } = region;
    const [one, two] = [firstTo, secondTo].map((port) => eventWordIndex(words, delivery!, port)) as [
      number,
      number,
    ];
    // As a sender leaves it that is killed after it made the predecessor busy.
    words[delivery!.lock] = 78;
    words[delivery!.journal] = (7 << 17) | secondTo;
    Atomics.or(words, two, PENDING | LINKED);
    Atomics.or(words, one, BUSY);
    machine.tables.completeSends(domId(77));
    expect([words[one]! & (BUSY | LINK), words[delivery!.journal]]).toEqual([secondTo, 0]);
    machine.run();
    expect(order).toEqual([1, 2]);
  });

  it('a port that is closed while it is queued is not given out before it was taken off', async () => {
    const { left, right } = await fifoPair();
    const [from, to] = await channelTo(left, right, () => {});
    left.channels.send(from);
    await right.channels.close(to);
    expect(await right.channels.allocUnbound(A)).not.toBe(to);
    expect(right.channels.dispatch()).toBe(0);
    expect(await right.channels.allocUnbound(A)).toBe(to);
  });
});

describe('VIRQs', () => {
  it('a per-vCPU one is raised on the vCPU that bound it, a global one where it was moved to', async () => {
    const machine = createTestMachine([A, B], { vcpuCount: () => 2 });
    const [left] = machine.domains as [TestDomain];
    await left.channels.useFifo();
    const heard: string[] = [];
    for (const vcpu of [0, 1]) {
      const port = await left.channels.bindVirq(VIRQ_DEBUG, vcpu);
      left.channels.onEvent(port, () => void heard.push(`debug ${vcpu}`));
    }
    expect(machine.tables.sendVirq(A, VIRQ_DEBUG, 1)).toBe(true);
    expect([left.channels.hasPending(0), left.channels.hasPending(1)]).toEqual([false, true]);
    expect(left.channels.dispatch(1)).toBe(1);
    expect(machine.tables.sendVirq(A, VIRQ_DEBUG)).toBe(true);
    expect(left.channels.dispatch(0)).toBe(1);
    expect(heard).toEqual(['debug 1', 'debug 0']);
    expect(machine.tables.sendVirq(A, VIRQ_DOM_EXC)).toBe(false);
  });
});
