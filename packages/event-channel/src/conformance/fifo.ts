import { type EvtchnPort, evtchnPort } from '@virtlab/abi/brands';
import {
  EVTCHN_FIFO_PRIORITY_DEFAULT,
  EVTCHN_FIFO_PRIORITY_MAX,
  EVTCHN_FIFO_PRIORITY_MIN,
} from '@virtlab/abi/event-channel';
import { describe, expect, it } from 'vitest';
import {
  type EventChannelCapabilities,
  type EventChannelMachine,
  type OnMachine,
  connectQuiet,
  failureOf,
} from './machine.ts';

/** Ports of `right` that write their index down, and the ports of `left` that lead there. */
async function ordered(
  m: EventChannelMachine,
  count: number,
): Promise<{
  readonly from: readonly EvtchnPort[];
  readonly to: readonly EvtchnPort[];
  readonly order: number[];
}> {
  const [from, to, order]: [EvtchnPort[], EvtchnPort[], number[]] = [[], [], []];
  for (let index = 0; index < count; index++) {
    const channel = await connectQuiet(m, m.left, m.right);
    m.right.channels.onEvent(channel.toPort, () => void order.push(index));
    from.push(channel.fromPort);
    to.push(channel.toPort);
  }
  return { from, to, order };
}

/** What only the FIFO ABI has. */
export function describeFifo(machine: OnMachine, { vcpuCount = 1 }: EventChannelCapabilities): void {
  describe('order', () => {
    it(
      'events of one priority are served in the order in which they came',
      machine(async (m) => {
        const { from, order } = await ordered(m, 5);
        for (const index of [3, 0, 4, 1, 3, 2, 0]) m.left.channels.send(from[index]!);
        expect(m.right.channels.dispatch()).toBe(5);
        expect(order).toEqual([3, 0, 4, 1, 2]);
      }),
    );

    it(
      'higher priorities are served first, whenever they come',
      machine(async (m) => {
        const { from, to, order } = await ordered(m, 4);
        await m.right.channels.setPriority(to[0]!, EVTCHN_FIFO_PRIORITY_MIN);
        await m.right.channels.setPriority(to[2]!, EVTCHN_FIFO_PRIORITY_DEFAULT);
        await m.right.channels.setPriority(to[3]!, EVTCHN_FIFO_PRIORITY_MAX);
        for (const index of [0, 1, 2, 3]) m.left.channels.send(from[index]!);
        m.right.channels.dispatch();
        expect(order.splice(0)).toEqual([3, 1, 2, 0]);
        // An urgent event that a handler causes comes before what waits already.
        m.right.channels.onEvent(to[1]!, () => {
          order.push(1);
          m.left.channels.send(from[3]!);
        });
        for (const index of [1, 2, 0]) m.left.channels.send(from[index]!);
        m.right.channels.dispatch();
        expect(order).toEqual([1, 3, 2, 0]);
      }),
    );

    it(
      'a new priority is for events to come; nothing is lost by changing it at any time',
      machine(async (m) => {
        const { from, to, order } = await ordered(m, 3);
        for (const index of [0, 1, 2]) m.left.channels.send(from[index]!);
        await m.right.channels.setPriority(to[2]!, EVTCHN_FIFO_PRIORITY_MAX);
        m.left.channels.send(from[2]!);
        m.right.channels.dispatch();
        expect(order.splice(0)).toEqual([0, 1, 2]);
        for (const index of [0, 1, 2]) m.left.channels.send(from[index]!);
        m.right.channels.dispatch();
        expect(order.splice(0)).toEqual([2, 0, 1]);
        // It was the last of its old queue: what comes there now begins a new one.
        for (const priority of [0, 7, 3, 7, 0, 15]) {
          await m.right.channels.setPriority(to[2]!, priority);
          for (const index of [2, 0, 1]) m.left.channels.send(from[index]!);
          m.right.channels.dispatch();
          expect(new Set(order.splice(0))).toEqual(new Set([0, 1, 2]));
        }
      }),
    );

    it(
      'a busy port of high priority does not keep a low one from being served',
      machine(async (m) => {
        const { from, to, order } = await ordered(m, 2);
        await m.right.channels.setPriority(to[0]!, EVTCHN_FIFO_PRIORITY_MAX);
        let ran = 0;
        m.right.channels.onEvent(to[0]!, () => {
          order.push(0);
          ran += 1;
          if (ran < 20) m.left.channels.send(from[0]!);
        });
        for (const index of [0, 1]) m.left.channels.send(from[index]!);
        await m.run();
        expect(order.indexOf(1)).toBe(1);
        expect(ran).toBe(20);
      }),
    );
  });

  describe('set_priority, init_control, expand_array', () => {
    it(
      'set_priority fails with EINVAL for a bad port, EACCES for a closed one, EINVAL for a priority over 15',
      machine(async ({ right }) => {
        const port = await right.channels.allocUnbound(right.channels.domain);
        const fails = (at: number, priority: number): Promise<string> =>
          failureOf(right, () => right.hypercalls.setPriority(evtchnPort(at), priority));
        expect(await fails(0x2_0000, 3)).toBe('EINVAL');
        expect(await fails(0, 3)).toBe('EACCES');
        expect(await fails(port + 1, 16)).toBe('EACCES');
        expect(await fails(port, 16)).toBe('EINVAL');
        expect(await fails(port, 15)).toBe('none');
      }),
    );

    it(
      'init_control fails with ENOENT for a vCPU, EINVAL for a bad offset, a second block, before a bad frame',
      machine(async ({ left }) => {
        const fails = (offset: number, vcpu: number): Promise<string> =>
          failureOf(left, () => left.hypercalls.initControl(0, offset, vcpu));
        expect(await fails(4096, vcpuCount)).toBe('ENOENT');
        for (const offset of [4032, 4025, 4, 0]) expect(await fails(offset, 0)).toBe('EINVAL');
      }),
    );

    it(
      'expand_array fails with EINVAL for a frame that is not for events',
      machine(async ({ left }) => {
        expect(await failureOf(left, () => left.hypercalls.expandArray(0))).toBe('EINVAL');
        expect(await failureOf(left, () => left.hypercalls.expandArray(0xff_ffff))).toBe('EINVAL');
      }),
    );
  });

  describe('pages of the event array', () => {
    it(
      'an event that comes before its page does waits for it',
      machine(async (m) => {
        const { channels } = m.privileged;
        const first = channels.openPorts().length;
        const opened: EvtchnPort[] = [];
        // Not by its own channels: nobody adds a page.
        for (let count = first; count < 1030; count++)
          opened.push(await m.privileged.hypercalls.allocUnbound(channels.domain, m.left.channels.domain));
        const port = opened.at(-1)!;
        const sender = await m.left.channels.bindInterdomain(channels.domain, port);
        m.left.channels.send(sender);
        expect(channels.hasPending()).toBe(false);
        let ran = 0;
        channels.onEvent(port, () => void (ran += 1));
        await m.run();
        m.left.channels.send(sender);
        await m.run();
        await channels.setPriority(port, 3);
        await m.run();
        expect(ran).toBeGreaterThanOrEqual(1);
        const seen = ran;
        m.left.channels.send(sender);
        await m.run();
        expect(ran).toBe(seen + 1);
      }),
    );
  });
}
