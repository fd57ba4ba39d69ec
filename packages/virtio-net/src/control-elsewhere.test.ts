import { describe, expect, it, vi } from 'vitest';
import { featureBits, hasFeature } from '@virtlab/abi/virtio';
import * as net from '@virtlab/abi/virtio-net';
import { TransportError } from '@virtlab/virtio';
import { createNetDevice } from './device.ts';
import { createNetDriver } from './driver.ts';
import { NET_DRIVER_ALL_FEATURES } from './driver-options.ts';
import { hex, mac, makeFrame } from './testing/frames.ts';
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

  it('vhost-user, "Ring states": of a queue that is disabled it discards what is sent, and only that', () => {
    const card = createNetDevice({
      mac: mac(1),
      port: new TestWire(),
      queuePairs: 2,
      controlElsewhere: true,
    });
    expect(card.discardedWhenDisabled).toEqual([
      net.virtioNetTransmitQueue(0),
      net.virtioNetTransmitQueue(1),
    ]);
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

  it('serves as many pairs as its driver enables, without a control queue to say how many', async () => {
    const wire = new TestWire();
    const card = createNetDevice({
      mac: mac(1),
      port: wire,
      queueSize: 32,
      queuePairs: 4,
      controlElsewhere: true,
    });
    const bench = new NetBench();
    const guest = bench.addGuest(card, { memorySize: 8 << 20 });
    const options = { aio: guest.aio, controlElsewhere: true, queuePairs: 2 };
    const driver = await bench.run(createNetDriver(guest.link, options));
    expect([driver.queuePairs, hasFeature(driver.features, net.VIRTIO_NET_F_MQ)]).toEqual([2, true]);
    expect([hex(driver.mac), driver.control]).toEqual([hex(mac(1)), undefined]);
    const seen: number[] = [];
    driver.onFrame((frame) => seen.push(frame.length));
    await bench.settle();
    wire.deliver(...[60, 61, 62, 63].map((size) => makeFrame(mac(1), mac(size), size)));
    await bench.settle();
    expect(new Set(seen)).toEqual(new Set([60, 61, 62, 63]));
    await bench.run(driver.close());
    expect(await bench.close()).toEqual([]);
  });
});

describe('a driver of a card whose control queue somebody else serves', () => {
  it('leaves alone what is asked for there, though the card offers it', async () => {
    const bench = new NetBench();
    const card = createNetDevice({ mac: mac(1), port: new TestWire(), queueSize: 32, queuePairs: 2 });
    const guest = bench.addGuest(card, { memorySize: 8 << 20 });
    const wanted = NET_DRIVER_ALL_FEATURES & ~featureBits(net.VIRTIO_NET_F_MQ);
    const options = { aio: guest.aio, controlElsewhere: true, wanted };
    const driver = await bench.run(createNetDriver(guest.link, options));
    expect([driver.features & CONTROL, driver.control, driver.queuePairs]).toEqual([0n, undefined, 1]);
    await bench.run(driver.close());
    expect(await bench.close()).toEqual([]);
  });

  it('§2.5 accepts nothing that the configuration would say where the transport has none', async () => {
    const bench = new NetBench();
    const card = createNetDevice({
      mac: mac(1),
      port: new TestWire(),
      queueSize: 32,
      queuePairs: 2,
      controlElsewhere: true,
    });
    const guest = bench.addGuest(card, { memorySize: 8 << 20 });
    vi.spyOn(guest.link.transport, 'readConfigBytes').mockImplementation(
      async (_, out) =>
        await (out.length === 0 ? undefined : Promise.reject(new TransportError('ENOTSUP', 'no CONFIG'))),
    );
    const options = { aio: guest.aio, controlElsewhere: true, queuePairs: 9 };
    const driver = await bench.run(createNetDriver(guest.link, options));
    const told = [net.VIRTIO_NET_F_MAC, net.VIRTIO_NET_F_MTU, net.VIRTIO_NET_F_STATUS];
    expect(told.map((bit) => hasFeature(driver.features, bit))).toEqual([false, false, false]);
    expect([driver.queuePairs, driver.mtu, driver.linkUp]).toEqual([2, 1500, true]);
    await bench.run(driver.close());
    expect(await bench.close()).toEqual([]);
  });
});
