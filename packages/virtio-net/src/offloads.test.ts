import { describe, expect, it } from 'vitest';
import type { FeatureBits } from '@virtlab/abi/brands';
import { featureBits } from '@virtlab/abi/virtio';
import * as net from '@virtlab/abi/virtio-net';
import type { NetDeviceOptions } from './device-options.ts';
import { type NetDevice, createNetDevice } from './device.ts';
import type { NetDriver } from './driver-contract.ts';
import { NET_DRIVER_FEATURES, NET_DRIVER_OFFLOADS, type NetDriverOptions } from './driver-options.ts';
import { createNetDriver } from './driver.ts';
import { type FrameOffload, NO_OFFLOAD } from './frame-offload.ts';
import { createHostPort } from './host-port.ts';
import { createLearningSwitch } from './learning-switch.ts';
import { hex, mac } from './testing/frames.ts';
import {
  type PacketShape,
  buildPacket,
  leaveChecksumOpen,
  referenceSegments,
} from './testing/internet-packets.ts';
import { NetBench } from './testing/net-bench.ts';

const ALL = NET_DRIVER_FEATURES | NET_DRIVER_OFFLOADS;
const without = (...bits: readonly number[]): FeatureBits => ALL & ~featureBits(...bits);
const CHECKSUMS = NET_DRIVER_FEATURES | featureBits(net.VIRTIO_NET_F_GUEST_CSUM);
const NO_MERGING = without(net.VIRTIO_NET_F_MRG_RXBUF);

function copyOffload({ flags, gsoType, hdrLen, gsoSize, csumStart, csumOffset }: FrameOffload): FrameOffload {
  return { flags, gsoType, hdrLen, gsoSize, csumStart, csumOffset };
}

interface Station {
  readonly driver: NetDriver;
  readonly device: NetDevice;
  readonly frames: string[];
  readonly offloads: FrameOffload[];
}

interface Pair {
  readonly from: Station;
  readonly to: Station;
  /** What a station of the host got. */
  readonly host: string[];
  readonly bench: NetBench;
}

/** Two guests and the host on a switch; the packets of `buildPacket` are for the second guest. */
async function withGuests(
  wanted: readonly [FeatureBits, FeatureBits],
  body: (pair: Pair) => Promise<void>,
  device: Partial<NetDeviceOptions> = {},
  options: Partial<NetDriverOptions> = {},
): Promise<void> {
  const bench = new NetBench();
  const network = createLearningSwitch({ now: () => bench.simulation.now() });
  const host: string[] = [];
  const port = createHostPort(network, 'host', { aio: bench.deviceAio });
  port.onFrame((frame) => host.push(hex(frame)));
  const stations: Station[] = [];
  for (const [index, each] of wanted.entries()) {
    const card = createNetDevice({
      mac: mac(index + 1),
      port: network.addPort(`${index}`),
      queueSize: 64,
      ...device,
    });
    const guest = bench.addGuest(card, { memorySize: 16 << 20 });
    const driver = await bench.run(createNetDriver(guest.link, { aio: guest.aio, wanted: each, ...options }));
    const frames: string[] = [];
    const offloads: FrameOffload[] = [];
    driver.onFrame((frame, { offload }) => {
      frames.push(hex(frame));
      offloads.push(copyOffload(offload));
    });
    stations.push({ driver, device: card, frames, offloads });
  }
  await bench.settle();
  await body({ from: stations[0]!, to: stations[1]!, host, bench });
  for (const { driver } of stations) await bench.run(driver.close());
  port[Symbol.dispose]();
  expect(await bench.close(), 'what is still held').toEqual([]);
}

const SHAPES: readonly (readonly [string, PacketShape, number])[] = [
  ['TCP over IPv4', { version: 4, protocol: 6, payloadSize: 20_000, tcpOptionSize: 12 }, 1],
  ['TCP over IPv4 with ECN', { version: 4, protocol: 6, payloadSize: 5000, tcpFlags: 0x98 }, 0x81],
  ['TCP over IPv6 with a VLAN tag', { version: 6, protocol: 6, payloadSize: 65_000, hasVlan: true }, 4],
  ['UDP over IPv4', { version: 4, protocol: 17, payloadSize: 20_000 }, 5],
  [
    'UDP over IPv6 with an extension header',
    { version: 6, protocol: 17, payloadSize: 9000, ipOptionSize: 8 },
    5,
  ],
];
const GSO_SIZE = 1400;

const KINDS: readonly (readonly [string, readonly [FeatureBits, FeatureBits], isWhole: boolean])[] = [
  ['to one that negotiated all', [ALL, ALL], true],
  ['to one without mergeable buffers', [ALL, NO_MERGING], true],
  ['to one with checksums only', [ALL, CHECKSUMS], false],
  ['to one that negotiated none', [ALL, NET_DRIVER_FEATURES], false],
  ['from a driver whose device does none', [NET_DRIVER_FEATURES, ALL], false],
  ['from none to none', [NET_DRIVER_FEATURES, NET_DRIVER_FEATURES], false],
];

describe.each(KINDS)('segmentation: %s', (_kind, wanted, isWhole) => {
  it.each(SHAPES)('%s', async (_what, shape, gsoType) => {
    await withGuests(wanted, async ({ from, to, host, bench }) => {
      const packet = buildPacket(shape);
      const open = leaveChecksumOpen(packet, shape);
      const { transportAt: csumStart, checksumOffset: csumOffset } = packet;
      const offload = { flags: 1, gsoType, hdrLen: 0, gsoSize: GSO_SIZE, csumStart, csumOffset };
      expect(from.driver.send(open, offload)).toBe(true);
      from.driver.kick();
      await bench.settle();
      const segments = referenceSegments(shape, GSO_SIZE).map(hex);
      expect(host, 'the host gets finished segments').toEqual(segments);
      const whole = { frames: [hex(open)], offloads: [{ ...offload, hdrLen: packet.payloadAt }] };
      const openSegment = { flags: 1, gsoType: 0, hdrLen: 0, gsoSize: 0, csumStart, csumOffset };
      const isOpen = wanted[1] === CHECKSUMS;
      const cut = {
        frames: isOpen ? to.frames : segments,
        offloads: segments.map(() => (isOpen ? openSegment : NO_OFFLOAD)),
      };
      const { frames, offloads } = to;
      expect({ frames, offloads }).toEqual(isWhole ? whole : cut);
      expect([from.driver.failure, to.driver.failure, to.driver.statistics.rxDropped]).toEqual([
        undefined,
        undefined,
        0,
      ]);
    });
  });
});

describe('checksums', () => {
  const shape: PacketShape = { version: 4, protocol: 17, payloadSize: 700 };
  const packet = buildPacket(shape);
  const open = leaveChecksumOpen(packet, shape);
  const offload = {
    flags: 1,
    gsoType: 0,
    hdrLen: 0,
    gsoSize: 0,
    csumStart: packet.transportAt,
    csumOffset: 6,
  };

  it.each([
    ['passed on to a driver that takes them open', ALL, open],
    ['finished for one that does not', NET_DRIVER_FEATURES, packet.bytes],
  ])('%s', async (_what, wanted, expected) => {
    await withGuests([ALL, wanted], async ({ from, to, bench }) => {
      from.driver.send(open, offload);
      from.driver.send(packet.bytes);
      from.driver.kick();
      await bench.settle();
      expect(to.frames).toEqual([hex(expected), hex(packet.bytes)]);
      expect(to.offloads.map(({ flags }) => flags)).toEqual([wanted === ALL ? 1 : 0, 0]);
    });
  });

  it('send refuses what does not fit the frame', async () => {
    await withGuests([ALL, ALL], async ({ from }) => {
      expect(() => from.driver.send(open, { ...offload, csumStart: 5000 })).toThrow(RangeError);
      expect(() => from.driver.send(open, { ...offload, gsoType: 1, gsoSize: 9 })).toThrow(RangeError);
      const large = buildPacket({ version: 4, protocol: 6, payloadSize: 4000 });
      const jumbo = { ...offload, gsoType: 1, gsoSize: 3000, csumOffset: 16, csumStart: large.transportAt };
      expect(() => from.driver.send(large.bytes, jumbo), 'segments above the MTU').toThrow(RangeError);
    });
  });
});

describe('tx: when packets to send are looked at', () => {
  const plain = buildPacket({ version: 4, protocol: 17, payloadSize: 100 }).bytes;

  it.each(['kick', 'bh', 'timer'] as const)(
    '%s: all arrive, in order, also more than a burst',
    async (tx) => {
      await withGuests(
        [ALL, ALL],
        async ({ from, to, bench }) => {
          const sent: string[] = [];
          for (let index = 0; index < 50; index += 1) {
            const frame = plain.slice();
            frame[frame.length - 1] = index;
            sent.push(hex(frame));
            if (!from.driver.send(frame)) throw new Error('no room');
            if (index % 7 === 0) from.driver.kick();
            if (index % 20 === 0) await bench.settle();
          }
          from.driver.kick();
          await bench.settle();
          expect(to.frames).toEqual(sent);
        },
        { tx, txBurst: 4, txTimerNs: 1_000_000 },
      );
    },
  );

  it('timer: nothing before its time, then one batch with one call at most', async () => {
    await withGuests(
      [ALL, ALL],
      async ({ from, to, bench }) => {
        for (let index = 0; index < 5; index += 1) {
          from.driver.send(plain);
          from.driver.kick();
          await bench.simulation.advance(1);
        }
        expect(to.frames.length).toBe(0);
        await bench.simulation.advance(10);
        expect(to.frames.length).toBe(5);
      },
      { tx: 'timer', txTimerNs: 10_000_000 },
    );
  });
});

describe('the watchdog', () => {
  it('reports a transmit queue without progress, with its ring; not one that is only slow to be taken back', async () => {
    await withGuests(
      [ALL, ALL],
      async ({ from, bench }) => {
        const stuck: unknown[] = [];
        from.driver.onStuck(({ queue, inFlightCount, snapshot }) =>
          stuck.push([queue, inFlightCount, snapshot.side]),
        );
        from.driver.send(buildPacket({ version: 4, protocol: 17, payloadSize: 10 }).bytes);
        from.driver.kick();
        await bench.simulation.advance(90);
        expect([stuck, from.driver.statistics.txTimeouts]).toEqual([[[1, 1, 'driver']], 1]);
        await bench.simulation.advance(200);
        expect(stuck.length).toBe(2);
      },
      { tx: 'timer', txTimerNs: 130_000_000 },
      { txTimeoutMs: 50 },
    );
  });
});

describe('§2.6.1 a queue that is reset alone', () => {
  const plain = buildPacket({ version: 4, protocol: 17, payloadSize: 100 }).bytes;

  it('transmit: what was in flight is lost and counted, and the next frames go out', async () => {
    await withGuests(
      [ALL, ALL],
      async ({ from, to, bench }) => {
        for (let index = 0; index < 5; index += 1) from.driver.send(plain);
        from.driver.kick();
        await bench.simulation.advance(5);
        await bench.run(from.driver.resetQueue(1));
        expect([to.frames.length, from.driver.statistics.txDropped]).toEqual([0, 5]);
        from.driver.send(plain);
        from.driver.kick();
        await bench.simulation.advance(100);
        expect(to.frames).toEqual([hex(plain)]);
        await expect(from.driver.resetQueue(2)).rejects.toThrow(RangeError);
      },
      { tx: 'timer', txTimerNs: 50_000_000 },
    );
  });

  it('receive: all buffers are there again', async () => {
    await withGuests([ALL, ALL], async ({ from, to, bench }) => {
      for (let round = 0; round < 3; round += 1) {
        await bench.run(to.driver.resetQueue(0));
        for (let index = 0; index < 40; index += 1) from.driver.send(plain);
        from.driver.kick();
        await bench.settle();
      }
      expect(to.frames.length).toBe(120);
    });
  });
});

describe('packed and in-order rings', () => {
  it.each([
    ['packed', featureBits(34, 28, 29)],
    ['packed, in order', featureBits(34, 35, 28, 29)],
    ['split, in order', featureBits(35, 29)],
  ])('%s: frames and control requests pass', async (_what, ringFeatures) => {
    await withGuests(
      [ALL, ALL],
      async ({ from, to, bench }) => {
        const shape: PacketShape = { version: 4, protocol: 6, payloadSize: 30_000 };
        const packet = buildPacket(shape);
        const offload = {
          flags: 1,
          gsoType: 1,
          hdrLen: 0,
          gsoSize: GSO_SIZE,
          csumStart: packet.transportAt,
          csumOffset: 16,
        };
        await bench.run(from.driver.control!.setMode('promiscuous', true));
        for (let index = 0; index < 20; index += 1) {
          from.driver.send(packet.bytes, offload);
          from.driver.kick();
          await bench.settle();
        }
        expect(to.frames).toEqual(Array.from({ length: 20 }, () => hex(packet.bytes)));
        expect(from.driver.features & ringFeatures).toBe(ringFeatures);
      },
      {},
      { ringFeatures },
    );
  });
});
