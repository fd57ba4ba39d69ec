import { evtchnPort } from '@virtlab/abi/brands';
import { VIRQ_ARGO, VIRQ_DEBUG, VIRQ_TIMER } from '@virtlab/abi/event-channel';
import { describe, expect, it } from 'vitest';
import { type EventChannelCapabilities, type OnMachine, connectQuiet, failureOf } from './machine.ts';

/** Which vCPU a port's events come on, and the mask of its upcalls. */
export function describeVcpus(machine: OnMachine, { vcpuCount = 1 }: EventChannelCapabilities): void {
  describe('the mask of upcalls', () => {
    it(
      'nothing is dispatched while upcalls are masked, and all of it afterwards',
      machine(async (m) => {
        const { fromPort, ran } = await connectQuiet(m, m.right, m.left);
        m.left.channels.maskUpcall();
        m.right.channels.send(fromPort);
        await m.run();
        expect([m.left.channels.hasPending(), m.left.channels.dispatch(), ran.to]).toEqual([false, 0, 0]);
        m.left.channels.unmaskUpcall();
        expect(m.left.channels.hasPending()).toBe(true);
        await m.run();
        expect(ran.to).toBe(1);
      }),
    );
  });

  describe('bind_vcpu', () => {
    it(
      'fails with ENOENT for a vCPU that does not exist, before EINVAL',
      machine(async ({ left }) => {
        const port = await left.channels.allocUnbound(left.channels.domain);
        expect(await failureOf(left, () => left.channels.bindVcpu(port, vcpuCount))).toBe('ENOENT');
        expect(await failureOf(left, () => left.hypercalls.bindVcpu(evtchnPort(0), 99))).toBe('ENOENT');
        await left.channels.bindVcpu(port, 0);
      }),
    );

    it(
      'fails with EINVAL for a closed port, an IPI and a per-vCPU VIRQ; other VIRQs move',
      machine(async ({ left }) => {
        const ipi = await left.channels.bindIpi(0);
        const timer = await left.channels.bindVirq(VIRQ_TIMER);
        const argo = await left.channels.bindVirq(VIRQ_ARGO);
        for (const port of [ipi, timer, evtchnPort(0), evtchnPort(777), evtchnPort(0x1_0000)])
          expect(await failureOf(left, () => left.hypercalls.bindVcpu(port, 0))).toBe('EINVAL');
        await left.channels.bindVcpu(argo, vcpuCount - 1);
        expect(await left.channels.status(argo)).toEqual({
          kind: 'virq',
          vcpu: vcpuCount - 1,
          virq: VIRQ_ARGO,
        });
      }),
    );
  });

  describe.skipIf(vcpuCount < 2)('several vCPUs', () => {
    it(
      'an IPI is heard on the vCPU that it is bound to, and on no other',
      machine(async ({ left: { channels } }) => {
        const ports = [await channels.bindIpi(0), await channels.bindIpi(1)];
        const ran: number[] = [];
        for (const [vcpu, port] of ports.entries()) {
          channels.onEvent(port, () => void ran.push(vcpu));
          expect(await channels.status(port)).toEqual({ kind: 'ipi', vcpu });
        }
        channels.send(ports[1]!);
        expect([channels.hasPending(0), channels.hasPending(1)]).toEqual([false, true]);
        expect([channels.dispatch(0), ran]).toEqual([0, []]);
        expect([channels.dispatch(1), ran]).toEqual([1, [1]]);
        channels.send(ports[0]!);
        expect([channels.dispatch(1), channels.dispatch(0), ran]).toEqual([0, 1, [1, 0]]);
      }),
    );

    it(
      'bind_vcpu moves a port with what is pending on it; a close brings the number back to vCPU 0',
      machine(async (m) => {
        const { channels } = m.left;
        const { fromPort, toPort, ran } = await connectQuiet(m, m.right, m.left);
        await channels.bindVcpu(toPort, 1);
        expect(await channels.status(toPort)).toMatchObject({ kind: 'interdomain', vcpu: 1 });
        m.right.channels.send(fromPort);
        channels.dispatch(0);
        expect([ran.to, channels.hasPending(1)]).toEqual([0, true]);
        channels.dispatch(1);
        expect(ran.to).toBe(1);
        m.right.channels.send(fromPort);
        await channels.bindVcpu(toPort, 0);
        channels.dispatch();
        expect(ran.to).toBe(2);
        await channels.bindVcpu(toPort, 1);
        await channels.close(toPort);
        expect(await channels.status(toPort)).toEqual({ kind: 'closed', vcpu: 0 });
      }),
    );

    it(
      'a port that was masked stays masked when it moves, and loses nothing',
      machine(async (m) => {
        const { channels } = m.left;
        const { fromPort, toPort, ran } = await connectQuiet(m, m.right, m.left);
        channels.onEvent(toPort, undefined);
        m.right.channels.send(fromPort);
        await channels.bindVcpu(toPort, 1);
        expect([channels.dispatch(), ran.to]).toEqual([0, 0]);
        channels.onEvent(toPort, () => void (ran.to += 1));
        expect([channels.dispatch(0), channels.dispatch(1), ran.to]).toEqual([0, 1, 1]);
      }),
    );

    it(
      'ports of one word on different vCPUs do not take one another’s events',
      machine(async ({ left: { channels } }) => {
        const order: string[] = [];
        for (const vcpu of [0, 1, 1, 0]) {
          const port = await channels.bindIpi(vcpu);
          channels.onEvent(port, () => void order.push(`${vcpu}`));
          channels.send(port);
        }
        expect([channels.dispatch(1), order.splice(0)]).toEqual([2, ['1', '1']]);
        expect([channels.dispatch(0), order.splice(0)]).toEqual([2, ['0', '0']]);
        expect(channels.hasPending()).toBe(false);
      }),
    );

    it(
      'each vCPU binds a per-vCPU VIRQ of its own, once',
      machine(async ({ left }) => {
        const ports = [
          await left.channels.bindVirq(VIRQ_DEBUG, 0),
          await left.channels.bindVirq(VIRQ_DEBUG, 1),
        ];
        for (const [vcpu, port] of ports.entries()) {
          expect(await left.channels.status(port)).toEqual({ kind: 'virq', vcpu, virq: VIRQ_DEBUG });
          expect(await failureOf(left, () => left.channels.bindVirq(VIRQ_DEBUG, vcpu))).toBe('EEXIST');
        }
        await left.channels.close(ports[1]!);
        expect(await left.channels.bindVirq(VIRQ_DEBUG, 1)).toBe(ports[1]);
        expect(await failureOf(left, () => left.channels.bindVirq(VIRQ_ARGO, 1))).toBe('EINVAL');
        expect(await failureOf(left, () => left.channels.bindVirq(VIRQ_DEBUG, vcpuCount))).toBe('ENOENT');
      }),
    );

    it(
      'masking one vCPU’s upcalls leaves the other one alone',
      machine(async ({ left: { channels } }) => {
        const ports = [await channels.bindIpi(0), await channels.bindIpi(1)];
        for (const port of ports) {
          channels.onEvent(port, () => {});
          channels.send(port);
        }
        channels.maskUpcall(0);
        expect([channels.hasPending(), channels.dispatch()]).toEqual([true, 1]);
        channels.unmaskUpcall(0);
        expect(channels.dispatch()).toBe(1);
      }),
    );
  });
}
