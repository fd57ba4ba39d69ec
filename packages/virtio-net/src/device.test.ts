import { describe, expect, it } from 'vitest';
import { fc } from '@fast-check/vitest';
import type { FeatureBits } from '@virtlab/abi/brands';
import { VIRTIO_CONFIG_S_NEEDS_RESET, featureBits } from '@virtlab/abi/virtio';
import {
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_RSS,
  VIRTIO_NET_F_STATUS,
} from '@virtlab/abi/virtio-net';
import { VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC } from '@virtlab/abi/virtio-ring';
import { NET_DEVICE_FEATURES, type NetDeviceOptions } from './device-options.ts';
import { type NetDevice, createNetDevice } from './device.ts';
import { RECEIVE_QUEUE, TRANSMIT_QUEUE } from './protocol.ts';
import { hex, mac, makeFrame } from './testing/frames.ts';
import { type GuestBench, NetBench } from './testing/net-bench.ts';
import { RawCard } from './testing/raw-card.ts';
import { TestWire } from './testing/wire.ts';

const RING = featureBits(VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC);
const MERGING = RING | featureBits(VIRTIO_NET_F_MRG_RXBUF);
const NO_HEADER = new Uint8Array(12);
const MTU = 1500;

interface Scene {
  readonly card: RawCard;
  readonly device: NetDevice;
  readonly wire: TestWire;
  readonly bench: NetBench;
  readonly guest: GuestBench;
}

async function withCard(
  body: (scene: Scene) => Promise<void>,
  { wanted = MERGING, ...options }: Partial<NetDeviceOptions> & { readonly wanted?: FeatureBits } = {},
): Promise<void> {
  const wire = new TestWire();
  const device = createNetDevice({ mac: mac(1), mtu: MTU, port: wire, ...options });
  const bench = new NetBench();
  const guest = bench.addGuest(device);
  const card = new RawCard(await guest.initialize(wanted));
  await bench.settle();
  await body({ card, device, wire, bench, guest });
  await bench.run(card.stop());
  expect(await bench.close(), 'what is still held').toEqual([]);
}

async function transmit({ card, bench }: Scene, ...pieces: readonly Uint8Array[]): Promise<void> {
  card.add(TRANSMIT_QUEUE, pieces);
  card.kick(TRANSMIT_QUEUE);
  await bench.settle();
}

/** Puts receive buffers of these sizes into the ring. */
async function post({ card, bench }: Scene, ...sizes: readonly number[]): Promise<void> {
  for (const size of sizes) card.add(RECEIVE_QUEUE, [], [size]);
  card.kick(RECEIVE_QUEUE);
  await bench.settle();
}

const needsReset = ({ guest }: Scene): boolean => (guest.host.status & VIRTIO_CONFIG_S_NEEDS_RESET) !== 0;

describe('frames from the driver', () => {
  const frame = makeFrame(mac(2), mac(1), 60);

  it('§5.1.9.2 what follows the header goes out, and the used length is 0', async () => {
    await withCard(async (scene) => {
      await transmit(scene, NO_HEADER, frame);
      expect(scene.wire.sent.map(hex)).toEqual([hex(frame)]);
      expect(scene.card.used).toMatchObject([{ queue: 1, token: 0, usedSize: 0 }]);
      expect(scene.device.statistics).toMatchObject({ txFrames: 1, txBytes: 60 });
    });
  });

  it('§2.7.4 takes any cut into descriptors', async () => {
    const whole = Uint8Array.of(...NO_HEADER, ...frame);
    await fc.assert(
      fc.asyncProperty(fc.uniqueArray(fc.integer({ min: 1, max: 71 }), { maxLength: 14 }), async (cuts) => {
        const ends = [...cuts.toSorted((a, b) => a - b), whole.length];
        const pieces = ends.map((end, index) => whole.subarray(index === 0 ? 0 : ends[index - 1], end));
        await withCard(async (scene) => {
          await transmit(scene, ...pieces);
          expect(scene.wire.sent.map(hex)).toEqual([hex(frame)]);
        });
      }),
      { numRuns: 40 },
    );
  });

  it('is one batch to the wire and one call to the driver', async () => {
    await withCard(async (scene) => {
      const { card, wire, bench, guest } = scene;
      for (let index = 0; index < 8; index += 1) card.add(TRANSMIT_QUEUE, [NO_HEADER, frame]);
      card.kick(TRANSMIT_QUEUE);
      await bench.settle();
      expect([wire.sent.length, wire.flushCount]).toEqual([8, 1]);
      expect(guest.host.statistics[TRANSMIT_QUEUE]).toMatchObject({ requests: 8, calls: 1 });
    });
  });

  const header = (...bytes: readonly number[]): Uint8Array => {
    const made = new Uint8Array(12);
    made.set(bytes);
    return made;
  };
  it.each([
    ['no whole header', 'txHeaderShort', [new Uint8Array(11)]],
    ['one byte', 'txHeaderShort', [new Uint8Array(1)]],
    ['a header and nothing', 'txFrameSize', [NO_HEADER]],
    ['13 bytes of frame', 'txFrameSize', [NO_HEADER, new Uint8Array(13)]],
    ['more than MTU, header and VLAN tag', 'txFrameSize', [NO_HEADER, makeFrame(mac(2), mac(1), MTU + 19)]],
    ['a checksum to finish', 'txOffload', [header(1), frame]],
    ['a checksum to finish past the end', 'txOffload', [header(1, 0, 0, 0, 0, 0, 0xff, 0xff), frame]],
    ['segmentation', 'txOffload', [header(0, 1, 54, 0, 0xb4, 5), frame]],
    [
      'segmentation in a header of two descriptors',
      'txOffload',
      [header(0, 4).subarray(0, 1), header(4), frame],
    ],
  ] as const)('§5.1.9.2 drops and counts: %s', async (_what, counter, pieces) => {
    await withCard(async (scene) => {
      await transmit(scene, ...pieces);
      expect(scene.wire.sent).toEqual([]);
      expect(scene.device.statistics[counter]).toBe(1);
      expect(scene.card.used, 'the chain comes back').toMatchObject([{ usedSize: 0 }]);
      await transmit(scene, NO_HEADER, frame);
      expect(scene.wire.sent.length, 'and the next one goes out').toBe(1);
    });
  });

  it('takes the largest frame with a VLAN tag', async () => {
    await withCard(async (scene) => {
      await transmit(scene, NO_HEADER, makeFrame(mac(2), mac(1), MTU + 18));
      expect(scene.wire.sent.length).toBe(1);
    });
  });

  it('§5.1.9.2.2 ignores flag bits that it does not know', async () => {
    await withCard(async (scene) => {
      await transmit(scene, header(0xf0), frame);
      expect(scene.wire.sent.length).toBe(1);
    });
  });

  it('§5.1.9.2 a packet with writable bytes: device needs reset, and works after one', async () => {
    await withCard(async (scene) => {
      scene.card.add(TRANSMIT_QUEUE, [NO_HEADER, frame], [16]);
      await transmit(scene, NO_HEADER, frame);
      expect(needsReset(scene)).toBe(true);
      expect(scene.guest.violations).toMatchObject([{ violation: { section: '5.1.9.2' } }]);
      expect(scene.wire.sent).toEqual([]);
      await scene.bench.run(scene.card.stop());
      const again = new RawCard(await scene.guest.initialize(MERGING));
      await transmit({ ...scene, card: again }, NO_HEADER, frame);
      expect(scene.wire.sent.length).toBe(1);
      await scene.bench.run(again.stop());
    });
  });
});

describe('frames to the driver', () => {
  const frame = makeFrame(mac(1), mac(2), 100);

  it('§5.1.9.4 a header with num_buffers 1, then the frame', async () => {
    for (const wanted of [RING, MERGING]) {
      await withCard(
        async (scene) => {
          await post(scene, 1526);
          expect(scene.wire.deliver(frame)).toEqual([true]);
          await scene.bench.settle();
          const [{ usedSize, bytes }] = scene.card.used as [(typeof scene.card.used)[0]];
          expect(usedSize).toBe(112);
          expect(hex(bytes.subarray(0, usedSize))).toBe(`000000000000000000000100${hex(frame)}`);
          expect(new Set(bytes.subarray(usedSize)), 'nothing is written behind it').toEqual(new Set([0xdb]));
        },
        { wanted },
      );
    }
  });

  it('§5.1.9.4 spreads a frame over buffers, and says over how many', async () => {
    await withCard(async (scene) => {
      await post(scene, 12, 40, 40, 40, 40);
      scene.wire.deliver(frame);
      await scene.bench.settle();
      const { used } = scene.card;
      expect(used.map(({ usedSize }) => usedSize)).toEqual([12, 40, 40, 20]);
      expect(hex(used[0]!.bytes)).toBe('000000000000000000000400');
      const whole = used.slice(1).flatMap(({ bytes, usedSize }) => [...bytes.subarray(0, usedSize)]);
      expect(whole).toEqual([...frame]);
    });
  });

  it('§2.7.4 fills buffers of any cut', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc
            .array(fc.integer({ min: 1, max: 70 }), { minLength: 1, maxLength: 6 })
            .map((sizes) => [12, ...sizes]),
          { minLength: 4, maxLength: 12 },
        ),
        async (chains) => {
          const room = chains.flat().reduce((sum, size) => sum + size, 0);
          await withCard(async (scene) => {
            const { card, bench, wire } = scene;
            for (const sizes of chains) card.add(RECEIVE_QUEUE, [], sizes);
            card.kick(RECEIVE_QUEUE);
            await bench.settle();
            const expected = room >= frame.length + 12;
            expect(wire.deliver(frame)).toEqual([expected]);
            await bench.settle();
            const got = card.used.flatMap(({ bytes, usedSize }) => [...bytes.subarray(0, usedSize)]);
            const header = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, card.used.length, 0];
            expect(got).toEqual(expected ? [...header, ...frame] : []);
          });
        },
      ),
      { numRuns: 40 },
    );
  });

  it('drops what finds no buffer or too few, and uses them for the next that fits', async () => {
    await withCard(async (scene) => {
      const { wire, bench, card, device } = scene;
      expect(wire.deliver(frame)).toEqual([false]);
      await post(scene, 64);
      const small = makeFrame(mac(1), mac(2), 40);
      expect(wire.deliver(frame, small, small)).toEqual([false, true, false]);
      await bench.settle();
      expect(card.used.map(({ usedSize }) => usedSize)).toEqual([52]);
      expect(device.statistics).toMatchObject({ rxNoBuffer: 3, rxFrames: 1, rxBytes: 40 });
      await post(scene, 2048);
      expect(wire.deliver(frame)).toEqual([true]);
    });
  });

  it('§5.1.9.3.1 without MRG_RXBUF a frame that is too long for the next buffer is dropped, the buffer kept', async () => {
    await withCard(
      async (scene) => {
        const { wire, bench, card, device } = scene;
        await post(scene, 64, 2048);
        expect(wire.deliver(frame)).toEqual([false]);
        expect(device.statistics.rxShortBuffer).toBe(1);
        expect(wire.deliver(frame.subarray(0, 52), frame)).toEqual([true, true]);
        await bench.settle();
        expect(card.used.map(({ usedSize }) => usedSize)).toEqual([64, 112]);
      },
      { wanted: RING },
    );
  });

  it('§5.1.4.1 drops what is no frame or larger than the MTU allows', async () => {
    await withCard(async (scene) => {
      await post(scene, 4096);
      const outcomes = scene.wire.deliver(
        new Uint8Array(13),
        makeFrame(mac(1), mac(2), MTU + 19),
        makeFrame(mac(1), mac(2), MTU + 18),
      );
      expect(outcomes).toEqual([false, false, true]);
      expect(scene.device.statistics.rxFrameSize).toBe(2);
    });
  });

  it.each([
    ['a buffer without room for a header', [], [11]],
    ['a buffer with readable bytes', [new Uint8Array(12)], [2048]],
    ['only readable bytes', [new Uint8Array(2048)], []],
  ])('§5.1.9.3 %s: device needs reset when a frame comes', async (_what, readable, writable) => {
    await withCard(async (scene) => {
      const { card, bench, wire, guest } = scene;
      card.add(RECEIVE_QUEUE, readable, writable);
      card.kick(RECEIVE_QUEUE);
      await bench.settle();
      expect(wire.deliver(frame, frame)).toEqual([false, false]);
      await bench.settle();
      expect(needsReset(scene)).toBe(true);
      expect(guest.violations).toMatchObject([{ violation: { section: '5.1.9.3' } }]);
    });
  });

  it('publishes and calls once a batch', async () => {
    await withCard(async (scene) => {
      await post(scene, ...Array.from({ length: 12 }, () => 256));
      scene.wire.deliver(...Array.from({ length: 12 }, () => frame));
      await scene.bench.settle();
      expect(scene.card.used.length).toBe(12);
      expect(scene.guest.host.statistics[RECEIVE_QUEUE]).toMatchObject({ requests: 12, calls: 1 });
    });
  });

  it('asks for a kick only when it ran out of buffers (EVENT_IDX)', async () => {
    await withCard(async (scene) => {
      await post(scene, ...Array.from({ length: 8 }, () => 256));
      const before = scene.guest.host.statistics[RECEIVE_QUEUE]!.kicks;
      for (let round = 0; round < 6; round += 1) {
        scene.wire.deliver(frame, frame);
        await scene.bench.settle();
        await post(scene, 256, 256);
      }
      expect(scene.guest.host.statistics[RECEIVE_QUEUE]!.kicks).toBe(before);
    });
  });
});

describe('link and life', () => {
  const frame = makeFrame(mac(2), mac(1), 60);

  it('§5.1.4 tells the driver of the link, and drops both ways while it is down', async () => {
    await withCard(
      async (scene) => {
        const { card, device, wire, bench } = scene;
        let changes = 0;
        card.session.onConfigChange(() => (changes += 1));
        await post(scene, 2048);
        device.setLink(true);
        device.setLink(false);
        await transmit(scene, NO_HEADER, frame);
        expect([wire.deliver(frame), wire.sent, changes]).toEqual([[false], [], 1]);
        expect(device.statistics.linkDown).toBe(2);
        const status = await bench.run(card.session.readConfig(6, 2));
        expect([...status]).toEqual([0, 0]);
        device.setLink(true);
        await transmit(scene, NO_HEADER, frame);
        expect([wire.deliver(frame), wire.sent.length, changes]).toEqual([[true], 1, 2]);
      },
      { wanted: MERGING | featureBits(VIRTIO_NET_F_STATUS) },
    );
  });

  it('§2.4.2 drops and writes nothing before DRIVER_OK and after a reset', async () => {
    await withCard(async (scene) => {
      const { card, device, wire, bench } = scene;
      await post(scene, 2048);
      await bench.run(card.stop());
      expect(wire.deliver(frame)).toEqual([false]);
      expect(device.statistics.rxInactive).toBe(1);
    });
  });

  it('offers what it was not told to leave out; MQ and RSS only with several pairs', () => {
    const offered = (options: Partial<NetDeviceOptions>): FeatureBits =>
      createNetDevice({ mac: mac(1), port: new TestWire(), ...options }).features;
    const pairs = featureBits(VIRTIO_NET_F_MQ, VIRTIO_NET_F_RSS);
    expect(offered({})).toBe(NET_DEVICE_FEATURES & ~pairs);
    expect(offered({ queuePairs: 2 })).toBe(NET_DEVICE_FEATURES);
    expect(offered({ features: MERGING })).toBe(MERGING);
    expect(() => offered({ features: featureBits(VIRTIO_NET_F_RSS), queuePairs: 2 })).toThrow(
      'RSS needs CTRL_VQ',
    );
  });

  it('§5.1.3.1 a driver that accepts segmentation without checksums is refused at FEATURES_OK', async () => {
    const bench = new NetBench();
    const guest = bench.addGuest(createNetDevice({ mac: mac(1), port: new TestWire() }));
    const { transport } = guest.link;
    await transport.writeStatus(1);
    await transport.writeStatus(3);
    await transport.writeDriverFeatures((1n << 32n) | featureBits(VIRTIO_NET_F_HOST_TSO4));
    await transport.writeStatus(11);
    expect((await transport.readStatus()) & 8).toBe(0);
    expect(await bench.close()).toEqual([]);
  });
});
