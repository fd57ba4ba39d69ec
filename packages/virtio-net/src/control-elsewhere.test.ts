import { describe, expect, it } from 'vitest';
import { featureBits, hasFeature } from '@virtlab/abi/virtio';
import * as net from '@virtlab/abi/virtio-net';
import { createNetDevice } from './device.ts';
import { createNetDriver } from './driver.ts';
import { mac, makeFrame } from './testing/frames.ts';
import { NetBench } from './testing/net-bench.ts';
import { TestWire } from './testing/wire.ts';

const CONTROL = featureBits(net.VIRTIO_NET_F_CTRL_VQ, net.VIRTIO_NET_F_CTRL_RX, net.VIRTIO_NET_F_RSS);

describe('a card whose control queue somebody else serves', () => {
  it('has data queues only, and nothing that is asked for over a control queue', () => {
    const card = createNetDevice({
      mac: mac(1),
      port: new TestWire(),
      queuePairs: 4,
      controlElsewhere: true,
    });
    expect(card.queueSizesMax).toHaveLength(8);
    expect(card.features & CONTROL).toBe(0n);
    expect(hasFeature(card.features, net.VIRTIO_NET_F_MQ)).toBe(true);
    expect(
      card.refuseFeatures?.(card.features),
      'MQ without CTRL_VQ is what a VhostUserFrontend sets',
    ).toBeUndefined();
  });

  it('§5.1.5 works with one pair for a driver that knows of no other', async () => {
    const wire = new TestWire();
    const card = createNetDevice({
      mac: mac(1),
      port: wire,
      queueSize: 32,
      queuePairs: 2,
      controlElsewhere: true,
    });
    const bench = new NetBench();
    const guest = bench.addGuest(card, { memorySize: 8 << 20 });
    const driver = await bench.run(createNetDriver(guest.link, { aio: guest.aio }));
    const seen: number[] = [];
    driver.onFrame((frame) => seen.push(frame.length));
    await bench.settle();
    expect(wire.deliver(makeFrame(mac(1), mac(2), 60), makeFrame(mac(9), mac(2), 61))).toEqual([true, true]);
    await bench.settle();
    expect(seen, 'whatever the address: filters are elsewhere too').toEqual([60, 61]);
    await bench.run(driver.close());
    expect(await bench.close()).toEqual([]);
  });
});
