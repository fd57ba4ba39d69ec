import { domId, evtchnPort } from '@virtlab/abi/brands';
import {
  NR_VIRQS,
  VIRQ_ARGO,
  VIRQ_CONSOLE,
  VIRQ_DEBUG,
  VIRQ_DOM_EXC,
  VIRQ_TIMER,
} from '@virtlab/abi/event-channel';
import { DOMID_FIRST_RESERVED, DOMID_IDLE, DOMID_SELF } from '@virtlab/abi/xen';
import { describe, expect, it } from 'vitest';
import { type OnMachine, connect, failureOf } from './machine.ts';

const NOBODY = domId(DOMID_FIRST_RESERVED - 1);

/** The error codes of the operations of either ABI (Xen common/event_channel.c), row by row. */
export function describeErrors(machine: OnMachine): void {
  describe('alloc_unbound', () => {
    it(
      'fails with ESRCH for a domain that does not exist',
      machine(async ({ privileged, left }) => {
        const { domain } = left.channels;
        expect(await failureOf(privileged, () => privileged.hypercalls.allocUnbound(NOBODY, domain))).toBe(
          'ESRCH',
        );
        expect(
          await failureOf(privileged, () => privileged.hypercalls.allocUnbound(DOMID_IDLE, domain)),
        ).toBe('ESRCH');
      }),
    );

    it(
      'fails with EPERM for another domain unless privileged',
      machine(async ({ privileged, left, right }) => {
        const target = right.channels.domain;
        expect(await failureOf(right, () => left.hypercalls.allocUnbound(target, left.channels.domain))).toBe(
          'EPERM',
        );
        const port = await privileged.hypercalls.allocUnbound(target, left.channels.domain);
        expect(right.channels.openPorts()).toContain(port);
      }),
    );

    it(
      'takes DOMID_SELF for either domain',
      machine(async ({ left }) => {
        const port = await left.hypercalls.allocUnbound(DOMID_SELF, DOMID_SELF);
        const status = await left.channels.status(port);
        expect(status).toEqual({ kind: 'unbound', vcpu: 0, remote: left.channels.domain });
      }),
    );

    it(
      'fails with ENOSPC when every port up to the maximum is open, and takes the lowest free one after a close',
      machine(async ({ left, right }) => {
        const { channels, portMax } = left;
        for (let count = channels.openPorts().length; count < portMax; count++) {
          await channels.allocUnbound(right.channels.domain);
        }
        expect(channels.openPorts()).toHaveLength(portMax);
        expect(await failureOf(left, () => channels.allocUnbound(right.channels.domain))).toBe('ENOSPC');
        expect(await failureOf(left, () => left.hypercalls.bindIpi(0))).toBe('ENOSPC');
        expect(await failureOf(left, () => channels.bindVirq(VIRQ_DEBUG))).toBe('ENOSPC');
        const waiting = await right.channels.allocUnbound(channels.domain);
        expect(await failureOf(left, () => channels.bindInterdomain(right.channels.domain, waiting))).toBe(
          'ENOSPC',
        );
        const mine = channels.openPorts().filter((port) => port > 40);
        await channels.close(mine[7]!);
        await channels.close(mine[3]!);
        expect(await channels.allocUnbound(right.channels.domain)).toBe(mine[3]);
        expect(await channels.allocUnbound(right.channels.domain)).toBe(mine[7]);
      }),
    );

    it(
      'does not need the remote domain to exist, and never gives port 0',
      machine(async ({ left }) => {
        const port = await left.channels.allocUnbound(NOBODY);
        expect(port).toBeGreaterThan(0);
        expect(await left.channels.status(port)).toEqual({ kind: 'unbound', vcpu: 0, remote: NOBODY });
      }),
    );
  });

  describe('bind_interdomain', () => {
    it(
      'fails with ESRCH for a domain that does not exist',
      machine(async ({ left }) => {
        expect(await failureOf(left, () => left.channels.bindInterdomain(NOBODY, evtchnPort(1)))).toBe(
          'ESRCH',
        );
      }),
    );

    it.each([0, 4095, 4096, 0x2_0000, 0xffff_ffff])(
      'fails with EINVAL for remote port %i, which is not unbound',
      (port) =>
        machine(async ({ left, right }) => {
          const remote = right.channels.domain;
          expect(await failureOf(left, () => left.channels.bindInterdomain(remote, evtchnPort(port)))).toBe(
            'EINVAL',
          );
        })(),
    );

    it(
      'fails with EINVAL for a port that is reserved for another domain',
      machine(async ({ privileged, left, right }) => {
        const port = await right.channels.allocUnbound(left.channels.domain);
        const remote = right.channels.domain;
        expect(await failureOf(privileged, () => privileged.channels.bindInterdomain(remote, port))).toBe(
          'EINVAL',
        );
        await left.channels.bindInterdomain(remote, port);
      }),
    );

    it(
      'fails with EINVAL for a port that is bound already, closed, or an IPI',
      machine(async ({ left, right }) => {
        const remote = right.channels.domain;
        const bound = await connect(left, right);
        expect(await failureOf(left, () => left.channels.bindInterdomain(remote, bound.toPort))).toBe(
          'EINVAL',
        );
        const ipi = await right.hypercalls.bindIpi(0);
        expect(await failureOf(left, () => left.channels.bindInterdomain(remote, ipi))).toBe('EINVAL');
        await right.channels.close(bound.toPort);
        expect(await failureOf(left, () => left.channels.bindInterdomain(remote, bound.toPort))).toBe(
          'EINVAL',
        );
      }),
    );
  });

  describe('bind_virq', () => {
    it.each([NR_VIRQS, 255, 0xffff_ffff])('fails with EINVAL for VIRQ %i', (virq) =>
      machine(async ({ privileged }) => {
        expect(await failureOf(privileged, () => privileged.channels.bindVirq(virq))).toBe('EINVAL');
      })(),
    );

    it(
      'fails with EINVAL for a global or per-domain VIRQ and a vCPU other than 0, before ENOENT',
      machine(async ({ privileged }) => {
        expect(await failureOf(privileged, () => privileged.hypercalls.bindVirq(VIRQ_DOM_EXC, 1))).toBe(
          'EINVAL',
        );
        expect(await failureOf(privileged, () => privileged.hypercalls.bindVirq(VIRQ_ARGO, 1))).toBe(
          'EINVAL',
        );
      }),
    );

    it(
      'fails with ENOENT for a vCPU that does not exist',
      machine(async ({ left }) => {
        expect(await failureOf(left, () => left.hypercalls.bindVirq(VIRQ_TIMER, 99))).toBe('ENOENT');
      }),
    );

    it(
      'fails with EBUSY for a global VIRQ of another domain',
      machine(async ({ left }) => {
        expect(await failureOf(left, () => left.channels.bindVirq(VIRQ_CONSOLE))).toBe('EBUSY');
      }),
    );

    it(
      'fails with EEXIST when the domain has bound the VIRQ, until that port closes',
      machine(async ({ left }) => {
        const port = await left.channels.bindVirq(VIRQ_DEBUG);
        expect(await left.channels.status(port)).toEqual({ kind: 'virq', vcpu: 0, virq: VIRQ_DEBUG });
        expect(await failureOf(left, () => left.channels.bindVirq(VIRQ_DEBUG))).toBe('EEXIST');
        await left.channels.close(port);
        expect(await left.channels.bindVirq(VIRQ_DEBUG)).toBe(port);
      }),
    );
  });

  describe('bind_ipi, close, send, status', () => {
    it(
      'bind_ipi fails with ENOENT for a vCPU that does not exist',
      machine(async ({ left }) => {
        expect(await failureOf(left, () => left.hypercalls.bindIpi(99))).toBe('ENOENT');
        const port = await left.hypercalls.bindIpi(0);
        expect(await left.channels.status(port)).toEqual({ kind: 'ipi', vcpu: 0 });
      }),
    );

    it.each([0, 777, 4096, 0xffff_ffff])('close fails with EINVAL for port %i, which is not open', (port) =>
      machine(async ({ left }) => {
        expect(await failureOf(left, () => left.channels.close(evtchnPort(port)))).toBe('EINVAL');
      })(),
    );

    it(
      'close fails with EINVAL the second time',
      machine(async ({ left, right }) => {
        const port = await left.channels.allocUnbound(right.channels.domain);
        await left.channels.close(port);
        expect(await failureOf(left, () => left.channels.close(port))).toBe('EINVAL');
      }),
    );

    it(
      'send is refused for ports that are invalid, closed or a VIRQ, and silently dropped for unbound ones',
      machine(async ({ left, right }) => {
        const virq = await left.channels.bindVirq(VIRQ_DEBUG);
        const unbound = await left.channels.allocUnbound(right.channels.domain);
        for (const port of [0, 777, 4096, 0xffff_ffff])
          expect(left.channels.send(evtchnPort(port))).toBe(false);
        expect(left.channels.send(virq)).toBe(false);
        expect(left.channels.send(unbound)).toBe(true);
      }),
    );

    it(
      'status fails with ESRCH, EINVAL for an invalid port, EPERM for another domain unless privileged',
      machine(async ({ privileged, left, right }) => {
        const port = await right.channels.allocUnbound(left.channels.domain);
        const { domain } = right.channels;
        expect(await failureOf(left, () => left.hypercalls.status(NOBODY, port))).toBe('ESRCH');
        expect(await failureOf(right, () => right.channels.status(evtchnPort(0x1_0000)))).toBe('EINVAL');
        expect(await failureOf(left, () => left.hypercalls.status(domain, port))).toBe('EPERM');
        const seen = await privileged.hypercalls.status(domain, port);
        expect(seen).toEqual({ kind: 'unbound', vcpu: 0, remote: left.channels.domain });
        expect(await right.hypercalls.status(DOMID_SELF, port)).toEqual(seen);
        await right.channels.close(port);
        expect(await right.channels.status(port)).toEqual({ kind: 'closed', vcpu: 0 });
      }),
    );

    it(
      'status names both ends of an interdomain channel',
      machine(async ({ left, right }) => {
        const { fromPort, toPort } = await connect(left, right);
        const fromStatus = {
          kind: 'interdomain',
          vcpu: 0,
          remote: right.channels.domain,
          remotePort: toPort,
        };
        const toStatus = { kind: 'interdomain', vcpu: 0, remote: left.channels.domain, remotePort: fromPort };
        expect(await left.channels.status(fromPort)).toEqual(fromStatus);
        expect(await right.channels.status(toPort)).toEqual(toStatus);
      }),
    );
  });
}
