import { evtchnPort } from '@virtlab/abi/brands';
import { describe, expect, it } from 'vitest';
import {
  type EventChannelCapabilities,
  type OnMachine,
  connect,
  connectQuiet,
  failureOf,
} from './machine.ts';

/** The operations of the FIFO ABI as a domain without it sees them, and the way from one ABI to the other. */
export function describeAbi(
  machine: OnMachine,
  on2Level: OnMachine,
  { abi = '2l' }: EventChannelCapabilities,
): void {
  describe('a domain that uses the 2-level ABI', () => {
    it(
      'expand_array fails with EOPNOTSUPP; set_priority with EINVAL for a bad port, else with ENOSYS',
      on2Level(async ({ left }) => {
        const port = await left.channels.allocUnbound(left.channels.domain);
        expect(left.channels.abi).toBe('2l');
        expect(await failureOf(left, () => left.hypercalls.expandArray(0))).toBe('EOPNOTSUPP');
        expect(await failureOf(left, () => left.channels.setPriority(evtchnPort(0x2_0000), 3))).toBe(
          'EINVAL',
        );
        expect(await failureOf(left, () => left.channels.setPriority(port, 3))).toBe('ENOSYS');
        expect(await failureOf(left, () => left.channels.setPriority(port, 99))).toBe('ENOSYS');
      }),
    );
  });

  describe.skipIf(abi !== 'fifo')('from the 2-level ABI to FIFO', () => {
    it(
      'open ports, handlers, masks and pending events stay',
      on2Level(async (m) => {
        const open = await connectQuiet(m, m.left, m.right);
        const masked = await connectQuiet(m, m.left, m.right);
        const withoutHandler = await connect(m.left, m.right);
        m.right.channels.mask(masked.toPort);
        m.right.channels.onEvent(withoutHandler.toPort, undefined);
        const before = m.right.channels.openPorts();
        for (const { fromPort } of [open, masked, withoutHandler]) m.left.channels.send(fromPort);
        await m.right.channels.useFifo();
        expect([m.right.channels.abi, m.right.channels.openPorts()]).toEqual(['fifo', before]);
        await m.run();
        expect([open.ran.to, masked.ran.to, withoutHandler.ran.to]).toEqual([1, 0, 0]);
        m.right.channels.unmask(masked.toPort);
        m.right.channels.onEvent(withoutHandler.toPort, () => void (withoutHandler.ran.to += 1));
        await m.run();
        expect([open.ran.to, masked.ran.to, withoutHandler.ran.to]).toEqual([1, 1, 1]);
      }),
    );

    it(
      'events that are sent while it switches arrive, whatever the peer uses',
      on2Level(async (m) => {
        const there = await connectQuiet(m, m.left, m.right);
        const switching = m.right.channels.useFifo();
        m.left.channels.send(there.fromPort);
        m.right.channels.mask(there.toPort);
        m.right.channels.unmask(there.toPort);
        await switching;
        await m.run();
        expect(there.ran.to).toBe(1);
        m.right.channels.send(there.toPort);
        m.left.channels.send(there.fromPort);
        await m.run();
        expect(there.ran).toEqual({ from: 1, to: 2 });
      }),
    );

    it(
      'twice is as good as once; reset goes back, and forth again',
      machine(async (m) => {
        await m.right.channels.useFifo();
        await m.right.channels.reset();
        await m.right.channels.useFifo();
        const { fromPort, ran } = await connectQuiet(m, m.left, m.right);
        m.left.channels.send(fromPort);
        await m.run();
        expect([ran.to, m.right.channels.abi]).toEqual([1, 'fifo']);
      }),
    );
  });
}
