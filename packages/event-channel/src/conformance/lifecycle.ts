import { describe, expect, it } from 'vitest';
import {
  type EventChannelCapabilities,
  type OnMachine,
  connect,
  connectQuiet,
  failureOf,
} from './machine.ts';

/** What becomes of ports when they close or their domain dies. */
export function describeLifecycle(machine: OnMachine, capabilities: EventChannelCapabilities): void {
  describe('closing', () => {
    it(
      'close makes the peer unbound, reserved for the domain that closed; its sends are dropped',
      machine(async (m) => {
        const { fromPort, toPort, ran } = await connectQuiet(m, m.left, m.right);
        await m.left.channels.close(fromPort);
        expect(await m.right.channels.status(toPort)).toEqual({
          kind: 'unbound',
          vcpu: 0,
          remote: m.left.channels.domain,
        });
        expect(m.right.channels.send(toPort)).toBe(true);
        await m.run();
        expect(ran).toEqual({ from: 0, to: 0 });
        expect(m.left.channels.send(fromPort)).toBe(false);
      }),
    );

    it(
      'after a close the same two domains can bind again, and events flow',
      machine(async (m) => {
        const { fromPort, toPort } = await connectQuiet(m, m.left, m.right);
        let ran = 0;
        m.right.channels.onEvent(toPort, () => void (ran += 1));
        for (let round = 1; round <= 3; round++) {
          await m.left.channels.close(fromPort);
          expect(await m.left.channels.bindInterdomain(m.right.channels.domain, toPort)).toBe(fromPort);
          m.left.channels.send(fromPort);
          await m.run();
          expect(ran).toBe(round);
        }
      }),
    );

    it(
      'close drops the handler and what was pending: the next owner of the number is not told',
      machine(async (m) => {
        const { fromPort, toPort, ran } = await connectQuiet(m, m.left, m.right);
        m.left.channels.send(fromPort);
        await m.right.channels.close(toPort);
        // FIFO: it is still on a queue, so its number is not free before the next dispatch.
        const isBusy = capabilities.abi === 'fifo';
        const other = isBusy ? await m.right.channels.allocUnbound(m.left.channels.domain) : undefined;
        expect(other).not.toBe(toPort);
        await m.run();
        const again = await m.right.channels.allocUnbound(m.left.channels.domain);
        expect(again).toBe(toPort);
        let told = 0;
        m.right.channels.onEvent(again, () => void (told += 1));
        await m.run();
        expect({ told, old: ran.to }).toEqual({ told: 0, old: 0 });
        await m.left.channels.close(fromPort);
        const sender = await m.left.channels.bindInterdomain(m.right.channels.domain, again);
        m.left.channels.send(sender);
        await m.run();
        expect({ told, old: ran.to }).toEqual({ told: 1, old: 0 });
      }),
    );

    it(
      'close of an unbound port, an IPI and a loopback end leaves nothing',
      machine(async (m) => {
        const before = m.left.channels.openPorts();
        const loop = await connect(m.left, m.left);
        await m.left.channels.close(loop.toPort);
        expect(await m.left.channels.status(loop.fromPort)).toMatchObject({ kind: 'unbound' });
        await m.left.channels.close(loop.fromPort);
        await m.left.channels.close(await m.left.channels.allocUnbound(m.right.channels.domain));
        await m.left.channels.close(await m.left.hypercalls.bindIpi(0));
        expect(m.left.channels.openPorts()).toEqual(before);
      }),
    );
  });

  describe.skipIf(!capabilities.destroy)('death of a domain', () => {
    it(
      'ports that were connected to it become unbound, reserved for it; sends are dropped, binding fails with ESRCH',
      machine(async (m) => {
        const { fromPort, toPort, ran } = await connectQuiet(m, m.left, m.right);
        const dead = m.right.channels.domain;
        await m.destroyRight!();
        expect(await m.left.channels.status(fromPort)).toEqual({ kind: 'unbound', vcpu: 0, remote: dead });
        expect(m.left.channels.send(fromPort)).toBe(true);
        await m.run();
        expect(ran).toEqual({ from: 0, to: 0 });
        expect(await failureOf(m.left, () => m.left.channels.bindInterdomain(dead, toPort))).toBe('ESRCH');
        expect(await failureOf(m.left, () => m.left.hypercalls.status(dead, toPort))).toBe('ESRCH');
        await m.left.channels.close(fromPort);
      }),
    );

    it(
      'an event it sent before its death is still delivered',
      machine(async (m) => {
        const { toPort, ran } = await connectQuiet(m, m.left, m.right);
        m.right.channels.send(toPort);
        await m.destroyRight!();
        await m.run();
        expect(ran.from).toBe(1);
      }),
    );
  });
}
