import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { VIRTIO_F_IN_ORDER, VIRTIO_F_RING_PACKED, hasFeature } from '@virtlab/abi/virtio';
import { VIRTIO_NET_F_MRG_RXBUF } from '@virtlab/abi/virtio-net';
import { createNodeAioContext } from '@virtlab/aio/node';
import { openFdCount } from '@virtlab/linux';
import { afterAll, expect, it } from 'vitest';
import { type Testpmd, startTestpmd } from './testpmd.ts';
import type { VdevArguments } from './testpmd-options.ts';
import { describeWithTestpmd } from './testing/describe-with-testpmd.ts';
import { Inbox, exchange, sendAll } from './testing/exchange.ts';
import { checksum, datagram, experiment, withMacsSwapped } from './testing/frames.ts';
import { ICMP, IP } from './testing/icmp.ts';
import { ServedCard } from './testing/served-card.ts';

const BATCH = 128;
const BATCH_COUNT = 24;
const SIZES = Array.from({ length: 364 }, (_, at) => 60 + 4 * at);

interface Variant {
  readonly name: string;
  readonly vdev: VdevArguments;
  /** What has to be negotiated: packed, in order, merged buffers. */
  readonly features: readonly [boolean, boolean, boolean];
  readonly queueSize?: number;
  readonly queuePairs?: number;
}

/** DPDK has a receive and a transmit path of its own for nearly each of these (drivers/net/virtio/virtio_ethdev.c). */
const VARIANTS: readonly Variant[] = [
  { name: 'split', vdev: { in_order: 0 }, features: [false, false, true] },
  { name: 'split, IN_ORDER', vdev: { in_order: 1 }, features: [false, true, true] },
  {
    name: 'split, IN_ORDER, a buffer a frame',
    vdev: { in_order: 1, mrg_rxbuf: 0 },
    features: [false, true, false],
  },
  {
    name: 'split, vectorized',
    vdev: { in_order: 0, mrg_rxbuf: 0, vectorized: 1 },
    features: [false, false, false],
  },
  { name: 'packed', vdev: { packed_vq: 1, in_order: 0 }, features: [true, false, true] },
  {
    name: 'packed, a buffer a frame',
    vdev: { packed_vq: 1, in_order: 0, mrg_rxbuf: 0 },
    features: [true, false, false],
  },
  { name: 'packed, IN_ORDER', vdev: { packed_vq: 1, in_order: 1 }, features: [true, true, true] },
  {
    name: 'packed, IN_ORDER, vectorized where the CPU can',
    vdev: { packed_vq: 1, in_order: 1, mrg_rxbuf: 0, vectorized: 1 },
    features: [true, true, false],
  },
  {
    name: 'split, 1024 entries',
    vdev: { queue_size: 1024 },
    features: [false, true, true],
    queueSize: 1024,
  },
  {
    name: 'packed, 512 entries',
    vdev: { packed_vq: 1, queue_size: 512 },
    features: [true, true, true],
    queueSize: 512,
  },
  { name: 'split, two pairs', vdev: {}, features: [false, true, true], queuePairs: 2 },
  { name: 'packed, two pairs', vdev: { packed_vq: 1 }, features: [true, true, true], queuePairs: 2 },
];

describeWithTestpmd("testpmd's net_virtio_user on our card", () => {
  const folder = mkdtempSync(join(tmpdir(), 'virtlab-dpdk-'));
  const path = join(folder, 'net.sock');
  afterAll(() => rmSync(folder, { recursive: true }));

  const withTestpmd = async (
    variant: Variant,
    body: (card: ServedCard, testpmd: Testpmd) => Promise<void>,
  ): Promise<void> => {
    const before = openFdCount();
    const { vdev, queuePairs = 1 } = variant;
    const aio = createNodeAioContext();
    const card = new ServedCard(path, aio, queuePairs);
    const port = { kind: 'net_virtio_user', path, queuePairs, vdev } as const;
    const testpmd = await startTestpmd({ ports: [port], forwardMode: 'rxonly', eal: SIMD });
    try {
      await body(card, testpmd);
      expect(await testpmd.quit()).toBe(0);
    } finally {
      await testpmd.kill();
      await card.close();
    }
    expect(card.ends).toEqual([{ fault: undefined, error: undefined }]);
    expect([aio.leaks(), openFdCount() - before]).toEqual([[], 0]);
    aio[Symbol.dispose]();
  };

  it.each(VARIANTS.map((variant) => [variant.name, variant] as const))(
    '%s: received, forwarded and sent, and both count alike',
    async (_, variant) => {
      await withTestpmd(variant, async (card, testpmd) => {
        await negotiated(card, variant);
        expect(await receives(card, testpmd)).toBe(BATCH * BATCH_COUNT);
        expect(await forwards(card, testpmd)).toBe(SIZES.length);
        expect(await sends(card, testpmd)).toBeGreaterThanOrEqual(5000);
      });
    },
  );
});

/** AVX-512 is only used where it is asked for. */
const SIMD: readonly string[] = ['--force-max-simd-bitwidth=512'];

/** testpmd does not wait for its rings to be enabled, so they may still be when it is at its prompt. */
async function negotiated(card: ServedCard, variant: Variant): Promise<void> {
  const { features: wanted, queueSize = 256, queuePairs = 1 } = variant;
  const running = (): number[] => {
    const { vrings } = card.backend.status();
    return vrings.filter(({ isRunning }) => isRunning).map(({ size }) => size);
  };
  while (running().length < 2 * queuePairs) await new Promise((resolve) => void setTimeout(resolve, 1));
  expect(running()).toEqual(Array.from({ length: 2 * queuePairs }, () => queueSize));
  const { features, protocolFeatures, status } = card.backend.status();
  const bits = [VIRTIO_F_RING_PACKED, VIRTIO_F_IN_ORDER, VIRTIO_NET_F_MRG_RXBUF];
  expect(bits.map((bit) => hasFeature(features, bit))).toEqual(wanted);
  expect(protocolFeatures).toEqual(['MQ', 'REPLY_ACK', 'STATUS']);
  expect(status).toBe('ACKNOWLEDGE|DRIVER|FEATURES_OK|DRIVER_OK');
}

/** How many frames came in at testpmd. */
async function receives({ station, device }: ServedCard, testpmd: Testpmd): Promise<number> {
  await testpmd.start();
  let bytes = 0;
  for (let batch = 1; batch <= BATCH_COUNT; batch += 1) {
    const frames = Array.from({ length: BATCH }, (_, at) => datagram(60 + at + batch, at));
    bytes += frames.reduce((sum, { length }) => sum + length, 0);
    await sendAll(station, frames);
    await testpmd.counted(({ rxPackets }) => rxPackets >= batch * BATCH);
  }
  const count = BATCH * BATCH_COUNT;
  expect(await testpmd.stop()).toMatchObject([{ rxPackets: count, rxDropped: 0 }]);
  expect((await testpmd.portStatistics())[0]).toMatchObject({ rxPackets: count, rxBytes: bytes });
  expect(device.statistics).toMatchObject({ rxFrames: count, rxBytes: bytes, rxNoBuffer: 0 });
  return count;
}

/** How many came back as they should. */
async function forwards({ station }: ServedCard, testpmd: Testpmd): Promise<number> {
  await testpmd.command('set fwd macswap');
  await testpmd.start();
  const frames = SIZES.map((size, at) => experiment(Math.min(size, 1514), at));
  const { wanted, found } = await exchange(station, new Inbox(station), frames, withMacsSwapped);
  expect(found).toEqual(wanted);
  const count = frames.length;
  expect(await testpmd.stop()).toMatchObject([{ rxPackets: count, txPackets: count, txDropped: 0 }]);
  return count;
}

/** How many it made itself. */
async function sends({ station, device }: ServedCard, testpmd: Testpmd): Promise<number> {
  await testpmd.command('set fwd txonly');
  await testpmd.command('set txpkts 300');
  await testpmd.clearPortStatistics();
  const { txFrames, txBytes } = device.statistics;
  let broken = 0;
  const inbox = new Inbox(station, (frame) => {
    const isWhole = frame.length === 300 && checksum(frame.subarray(IP, ICMP)) === 0;
    if (!isWhole) broken += 1;
    return false;
  });
  await testpmd.start();
  await inbox.counted(5000);
  await testpmd.stop();
  const [port] = await testpmd.portStatistics();
  await inbox.counted(port!.txPackets);
  expect([inbox.count, inbox.size, broken]).toEqual([port!.txPackets, port!.txBytes, 0]);
  expect(device.statistics).toMatchObject({
    txFrames: txFrames + inbox.count,
    txBytes: txBytes + inbox.size,
    txHeaderShort: 0,
    txOffload: 0,
    txFrameSize: 0,
  });
  return inbox.count;
}
