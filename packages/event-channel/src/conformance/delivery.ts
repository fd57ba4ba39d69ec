import type { EvtchnPort } from '@virtlab/abi/brands';
import { VIRQ_CONSOLE } from '@virtlab/abi/event-channel';
import { describe, expect, it } from 'vitest';
import {
  type ConformanceDomain,
  type EventChannelCapabilities,
  type OnMachine,
  connect,
  connectQuiet,
} from './machine.ts';

/** What `send`, `mask`, `unmask` and `dispatch` promise. */
export function describeDelivery(machine: OnMachine, capabilities: EventChannelCapabilities): void {
  describe('delivery', () => {
    it(
      'bind_interdomain leaves the local port pending, so that events before it are not lost',
      machine(async (m) => {
        const port = await m.right.channels.allocUnbound(m.left.channels.domain);
        expect(m.right.channels.send(port)).toBe(true);
        const bound = await m.left.channels.bindInterdomain(m.right.channels.domain, port);
        let ran = 0;
        m.left.channels.onEvent(bound, () => void (ran += 1));
        await m.run();
        expect(ran).toBe(1);
      }),
    );

    it(
      'an event reaches the other end and only it, both ways',
      machine(async (m) => {
        const channel = await connectQuiet(m, m.left, m.right);
        const other = await connectQuiet(m, m.left, m.right);
        m.left.channels.send(channel.fromPort);
        await m.run();
        expect(channel.ran).toEqual({ from: 0, to: 1 });
        m.right.channels.send(channel.toPort);
        await m.run();
        expect(channel.ran).toEqual({ from: 1, to: 1 });
        expect(other.ran).toEqual({ from: 0, to: 0 });
      }),
    );

    it(
      'any number of sends before a dispatch run the handler once, and each dispatch takes its own',
      machine(async (m) => {
        const channel = await connectQuiet(m, m.left, m.right);
        for (let sent = 0; sent < 100; sent++) m.left.channels.send(channel.fromPort);
        await m.run();
        expect(channel.ran.to).toBe(1);
        await m.run();
        expect(channel.ran.to).toBe(1);
        m.left.channels.send(channel.fromPort);
        await m.run();
        expect(channel.ran.to).toBe(2);
      }),
    );

    it(
      'dispatch answers how many handlers ran and hasPending whether there is a reason to call it',
      machine(async (m) => {
        const first = await connectQuiet(m, m.left, m.right);
        const second = await connectQuiet(m, m.left, m.right);
        expect(m.right.channels.hasPending()).toBe(false);
        m.left.channels.send(first.fromPort);
        m.left.channels.send(second.fromPort);
        expect(m.right.channels.hasPending()).toBe(true);
        expect(m.right.channels.dispatch()).toBe(2);
        expect(m.right.channels.hasPending()).toBe(false);
        expect(m.right.channels.dispatch()).toBe(0);
      }),
    );

    it(
      'an event on a masked port stays pending and is delivered on unmask',
      machine(async (m) => {
        const channel = await connectQuiet(m, m.left, m.right);
        m.right.channels.mask(channel.toPort);
        m.left.channels.send(channel.fromPort);
        m.left.channels.send(channel.fromPort);
        await m.run();
        expect(channel.ran.to).toBe(0);
        m.right.channels.unmask(channel.toPort);
        await m.run();
        expect(channel.ran.to).toBe(1);
        m.right.channels.unmask(channel.toPort);
        await m.run();
        expect(channel.ran.to).toBe(1);
      }),
    );

    it(
      'a port without a handler keeps its event until it gets one',
      machine(async (m) => {
        const toPort = await m.right.channels.allocUnbound(m.left.channels.domain);
        const fromPort = await m.left.channels.bindInterdomain(m.right.channels.domain, toPort);
        m.left.channels.send(fromPort);
        await m.run();
        m.right.channels.unmask(toPort);
        await m.run();
        let ran = 0;
        m.right.channels.onEvent(toPort, () => void (ran += 1));
        await m.run();
        expect(ran).toBe(1);
        m.right.channels.onEvent(toPort, undefined);
        m.left.channels.send(fromPort);
        await m.run();
        expect(ran).toBe(1);
        m.right.channels.onEvent(toPort, () => void (ran += 10));
        await m.run();
        expect(ran).toBe(11);
      }),
    );

    it(
      'a handler may mask, close or unbind a port whose event is in the same dispatch',
      machine(async (m) => {
        const [first, second, third] = [
          await connectQuiet(m, m.left, m.right),
          await connectQuiet(m, m.left, m.right),
          await connectQuiet(m, m.left, m.right),
        ];
        const ran: EvtchnPort[] = [];
        const all = [first, second, third].map(({ toPort }) => toPort);
        for (const port of all) {
          m.right.channels.onEvent(port, () => {
            ran.push(port);
            for (const other of all) if (other !== port) m.right.channels.mask(other);
          });
        }
        for (const { fromPort } of [first, second, third]) m.left.channels.send(fromPort);
        await m.run();
        expect(ran).toHaveLength(1);
        const rest = all.filter((port) => !ran.includes(port));
        for (const port of rest) m.right.channels.onEvent(port, undefined);
        for (const port of rest) m.right.channels.onEvent(port, () => void ran.push(port));
        await m.run();
        expect(new Set(ran)).toEqual(new Set(all));
        expect(ran).toHaveLength(all.length);
      }),
    );

    it(
      'a handler that sends to its own domain is heard in a later dispatch, not lost',
      machine(async (m) => {
        const ipi = await m.left.hypercalls.bindIpi(0);
        let ran = 0;
        m.left.channels.onEvent(ipi, () => {
          ran += 1;
          if (ran < 5) m.left.channels.send(ipi);
        });
        expect(m.left.channels.send(ipi)).toBe(true);
        await m.run();
        expect(ran).toBe(5);
      }),
    );

    it(
      'both ends of a channel may be in one domain',
      machine(async (m) => {
        const channel = await connectQuiet(m, m.left, m.left);
        expect(channel.fromPort).not.toBe(channel.toPort);
        m.left.channels.send(channel.fromPort);
        await m.run();
        expect(channel.ran).toEqual({ from: 0, to: 1 });
      }),
    );

    it.skipIf(!capabilities.virq)(
      'a raised VIRQ runs the handler of the port that is bound to it',
      machine(async (m) => {
        const bound = await m.privileged.channels.bindVirq(VIRQ_CONSOLE);
        let ran = 0;
        m.privileged.channels.onEvent(bound, () => void (ran += 1));
        await m.raiseVirq!(VIRQ_CONSOLE);
        await m.run();
        expect(ran).toBe(1);
      }),
    );
  });
  describeWholeTable(machine, capabilities);
}

/** Opens every port of a domain for another one; answers all it has opened. */
async function openAll(domain: ConformanceDomain, remote: ConformanceDomain): Promise<readonly EvtchnPort[]> {
  const opened: EvtchnPort[] = [];
  for (let count = domain.channels.openPorts().length; count < domain.portMax; count++) {
    opened.push(await domain.channels.allocUnbound(remote.channels.domain));
  }
  return opened;
}

function describeWholeTable(machine: OnMachine, { abi }: EventChannelCapabilities): void {
  describe('all ports', () => {
    it(
      'the boundaries of halves, words and selector words deliver to exactly their port; every port can be open',
      machine(async (m) => {
        const opened = await openAll(m.privileged, m.left);
        const edges = [1, 31, 32, 63, 64, 65, 127, 128, 1023, 1024, 2047, 2048, 2049, 4031, 4032, 4063, 4064];
        edges.push(4095, 4096, m.privileged.portMax);
        const tested = opened.filter((port) => edges.includes(port));
        expect(tested.at(-1)).toBe(m.privileged.portMax);
        const ran: EvtchnPort[] = [];
        for (const port of tested) m.privileged.channels.onEvent(port, () => void ran.push(port));
        for (const port of tested) {
          const sender = await m.left.channels.bindInterdomain(m.privileged.channels.domain, port);
          ran.length = 0;
          m.left.channels.send(sender);
          await m.run();
          expect(ran).toEqual([port]);
        }
      }),
    );

    it.skipIf(abi === 'fifo').each([
      { places: [10, 11, 12], where: 'one half of a word' },
      { places: [20, 52, 60], where: 'both halves of a word' },
      { places: [40, 200, 900], where: 'several words' },
      { places: [40, 900, 3000], where: 'both selector halves' },
    ])('a dispatch starts behind the port that ran last: $where', ({ places }) =>
      machine(async (m) => {
        const opened = await openAll(m.privileged, m.left);
        const ports = places.map((place) => opened[place]!);
        const senders: EvtchnPort[] = [];
        const order: number[] = [];
        for (const [index, port] of ports.entries()) {
          senders.push(await m.left.channels.bindInterdomain(m.privileged.channels.domain, port));
          m.privileged.channels.onEvent(port, () => void order.push(index));
        }
        for (const last of [0, 1, 2]) {
          m.left.channels.send(senders[last]!);
          await m.run();
          order.length = 0;
          for (const sender of senders) m.left.channels.send(sender);
          await m.run();
          expect(order).toEqual([0, 1, 2].map((step) => (last + 1 + step) % 3));
        }
      })(),
    );

    it(
      'a port that is always busy does not keep the others from being served',
      machine(async (m) => {
        const busy = await connectQuiet(m, m.left, m.right);
        const calm = await connect(m.left, m.right);
        let ranBusy = 0;
        let busyBeforeCalm = 0;
        m.right.channels.onEvent(busy.toPort, () => {
          ranBusy += 1;
          if (ranBusy < 50) m.left.channels.send(busy.fromPort);
        });
        m.right.channels.onEvent(calm.toPort, () => void (busyBeforeCalm = ranBusy));
        m.left.channels.send(busy.fromPort);
        m.left.channels.send(calm.fromPort);
        await m.run();
        expect(ranBusy).toBe(50);
        expect(busyBeforeCalm).toBeLessThanOrEqual(1);
      }),
    );
  });
}
