import { domId, evtchnPort } from '@virtlab/abi/brands';
import { DOMID_FIRST_RESERVED, DOMID_SELF } from '@virtlab/abi/xen';
import { describe, expect, it } from 'vitest';
import { type EventChannelCapabilities, type OnMachine, connectQuiet, failureOf } from './machine.ts';

const NOBODY = domId(DOMID_FIRST_RESERVED - 1);

/** `reset`, `unmask` as a hypercall, and physical interrupts. */
export function describeReset(
  machine: OnMachine,
  { paused = false, pirqCount }: EventChannelCapabilities,
): void {
  describe('reset', () => {
    it(
      'closes every port of the domain, makes peers unbound, and returns to the 2-level ABI',
      machine(async (m) => {
        const kept = m.left.channels.openPorts().length;
        const { fromPort, toPort } = await connectQuiet(m, m.right, m.left);
        await m.left.channels.allocUnbound(m.right.channels.domain);
        m.right.channels.send(fromPort);
        await m.left.channels.reset();
        expect(kept).toBeLessThan(2);
        expect(m.left.channels.openPorts()).toEqual([]);
        expect(m.left.channels.abi).toBe('2l');
        expect(await m.right.channels.status(fromPort)).toMatchObject({
          kind: 'unbound',
          remote: m.left.channels.domain,
        });
        expect(m.right.channels.send(fromPort)).toBe(true);
        expect(m.left.channels.send(toPort)).toBe(false);
        await m.run();
      }),
    );

    it(
      'a domain goes on afterwards: it opens ports and hears events',
      machine(async (m) => {
        await connectQuiet(m, m.right, m.left);
        await m.left.hypercalls.reset(DOMID_SELF);
        await m.left.channels.reset();
        const { fromPort, ran } = await connectQuiet(m, m.right, m.left);
        m.right.channels.send(fromPort);
        await m.run();
        expect(ran.to).toBe(1);
      }),
    );

    it(
      'fails with ESRCH, EPERM for another domain unless privileged, EINVAL for one that is not paused',
      machine(async ({ privileged, left, right }) => {
        const port = await right.channels.allocUnbound(left.channels.domain);
        const { domain } = right.channels;
        expect(await failureOf(privileged, () => privileged.hypercalls.reset(NOBODY))).toBe('ESRCH');
        expect(await failureOf(left, () => left.hypercalls.reset(domain))).toBe('EPERM');
        expect(await failureOf(privileged, () => privileged.hypercalls.reset(domain))).toBe('EINVAL');
        expect(right.channels.openPorts()).toContain(port);
      }),
    );

    it.skipIf(!paused)(
      'a privileged domain may reset one that is paused',
      machine(async (m) => {
        const port = evtchnPort(1);
        expect(await m.privileged.hypercalls.status(m.paused!, port)).toMatchObject({ kind: 'unbound' });
        expect(await failureOf(m.left, () => m.left.hypercalls.reset(m.paused!))).toBe('EPERM');
        await m.privileged.hypercalls.reset(m.paused!);
        expect(await m.privileged.hypercalls.status(m.paused!, port)).toMatchObject({ kind: 'closed' });
      }),
    );
  });

  describe('unmask', () => {
    it(
      'fails with EINVAL for a port that is not valid; delivers what is pending',
      machine(async (m) => {
        const { fromPort, toPort, ran } = await connectQuiet(m, m.right, m.left);
        expect(await failureOf(m.left, () => m.left.hypercalls.unmask(evtchnPort(0x2_0000)))).toBe('EINVAL');
        m.left.channels.mask(toPort);
        m.right.channels.send(fromPort);
        await m.run();
        expect(ran.to).toBe(0);
        await m.left.hypercalls.unmask(toPort);
        await m.run();
        expect(ran.to).toBe(1);
      }),
    );
  });

  describe('bind_pirq', () => {
    it.skipIf(pirqCount !== undefined)(
      'fails with EOPNOTSUPP where there are no physical interrupts',
      machine(async ({ left }) => {
        expect(await failureOf(left, () => left.hypercalls.bindPirq(0, 0))).toBe('EOPNOTSUPP');
      }),
    );

    it.skipIf(pirqCount === undefined)(
      'fails with EINVAL for one that does not exist, EPERM for another’s, EEXIST for a bound one',
      machine(async ({ left, right }) => {
        const port = await left.hypercalls.bindPirq(0, 1);
        expect(await left.channels.status(port)).toEqual({ kind: 'pirq', vcpu: 0, pirq: 0 });
        expect(await failureOf(left, () => left.hypercalls.bindPirq(pirqCount!, 0))).toBe('EINVAL');
        expect(await failureOf(right, () => right.hypercalls.bindPirq(0, 0))).toBe('EPERM');
        expect(await failureOf(left, () => left.hypercalls.bindPirq(0, 0))).toBe('EEXIST');
        expect(left.channels.send(port)).toBe(false);
        await left.hypercalls.bindVcpu(port, 0);
        await left.channels.close(port);
        expect(await left.hypercalls.bindPirq(0, 0)).toBe(port);
      }),
    );
  });
}
