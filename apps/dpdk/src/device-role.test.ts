import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_VERSION_1,
  featureBit,
  featureBits,
  hasFeature,
} from '@virtlab/abi/virtio';
import { VIRTIO_NET_CONFIG, VIRTIO_NET_F_MQ, VIRTIO_NET_F_MRG_RXBUF } from '@virtlab/abi/virtio-net';
import { openFdCount } from '@virtlab/linux';
import { RING_FEATURES } from '@virtlab/virtio';
import { NET_DRIVER_FEATURES, type NetDriver } from '@virtlab/virtio-net';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { type Testpmd, startTestpmd } from './testpmd.ts';
import { describeWithTestpmd } from './testing/describe-with-testpmd.ts';
import { type DrivenCardOptions, withDrivenCard } from './testing/driven-card.ts';
import { Inbox, exchange, sendAll } from './testing/exchange.ts';
import {
  checksum,
  datagram,
  experiment,
  OURS,
  THEIRS,
  text,
  withMacsSwapped,
  withTupleSwapped,
} from './testing/frames.ts';
import { ICMP, IP, arpRequest, echoRequest } from './testing/icmp.ts';

const MERGED = featureBit(VIRTIO_NET_F_MRG_RXBUF);
const PACKED = featureBit(VIRTIO_F_RING_PACKED);
const IN_ORDER = featureBit(VIRTIO_F_IN_ORDER);
const RINGS: readonly (readonly [string, bigint])[] = [
  ['split', 0n],
  ['split, INDIRECT, EVENT_IDX', RING_FEATURES],
  ['split, IN_ORDER', RING_FEATURES | IN_ORDER],
  ['packed', PACKED],
  ['packed, INDIRECT, EVENT_IDX', RING_FEATURES | PACKED],
  ['packed, IN_ORDER', RING_FEATURES | PACKED | IN_ORDER],
];
const VARIANTS = RINGS.flatMap(([name, ring]) => [
  [`${name}, merged buffers`, ring, MERGED] as const,
  [`${name}, a buffer a frame`, ring, 0n] as const,
]);
const SMALLEST = 60;
const LARGEST = 1514;
const ALL_SIZES = Array.from({ length: LARGEST - SMALLEST + 1 }, (_, at) => SMALLEST + at);
const BUFFER_SIZE_JUMBO = 9216;
const MTU_JUMBO = 9000;

describeWithTestpmd("our driver on testpmd's net_vhost", () => {
  const folder = mkdtempSync(join(tmpdir(), 'virtlab-dpdk-'));
  const path = join(folder, 'net.sock');
  let testpmd: Testpmd;
  beforeAll(async () => {
    testpmd = await startTestpmd({
      ports: [{ kind: 'net_vhost', path, queuePairs: 2 }],
      args: [`--mbuf-size=${BUFFER_SIZE_JUMBO}`],
      bufferCount: 4096,
    });
  });
  let fdCount = 0;
  beforeEach(() => void (fdCount = openFdCount()));
  afterEach(() => expect(openFdCount()).toBe(fdCount));
  afterAll(async () => {
    expect(await testpmd.quit()).toBe(0);
    rmSync(folder, { recursive: true });
  });

  /** A card whose frames testpmd treats in the way that `mode` says; its counters begin at 0. */
  const forwarding = async (
    mode: string,
    options: DrivenCardOptions,
    body: (driver: NetDriver) => Promise<void>,
  ): Promise<void> => {
    await withDrivenCard(path, options, async (driver) => {
      await testpmd.command(`set fwd ${mode}`);
      await testpmd.clearPortStatistics();
      await testpmd.start();
      await body(driver);
    });
  };

  it.each(VARIANTS)(
    '§5.1.9 %s: frames of all sizes go there and back, and both count alike',
    async (_, ring, merged) => {
      const wanted = (NET_DRIVER_FEATURES & ~MERGED) | merged;
      await forwarding('macswap', { driver: { ringFeatures: ring, wanted } }, async (driver) => {
        const own = driver.features & (RING_FEATURES | PACKED | IN_ORDER | MERGED);
        expect([own, hasFeature(driver.features, VIRTIO_F_VERSION_1)]).toEqual([ring | merged, true]);
        const frames = ALL_SIZES.map((size) => experiment(size, size));
        const { wanted: sent, found } = await exchange(driver, new Inbox(driver), frames, withMacsSwapped);
        expect(found).toEqual(sent);
        const [counted] = await testpmd.stop();
        const count = ALL_SIZES.length;
        expect(counted).toEqual({ port: 0, rxPackets: count, rxDropped: 0, txPackets: count, txDropped: 0 });
        const [port] = await testpmd.portStatistics();
        const { txFrames, txBytes, rxFrames, rxBytes, rxDropped } = driver.statistics;
        expect([txFrames, txBytes]).toEqual([port!.rxPackets, port!.rxBytes]);
        expect([rxFrames, rxBytes, rxDropped]).toEqual([port!.txPackets, port!.txBytes, 0]);
      });
    },
  );

  it('§5.1.9.3.1 a large MTU: frames over several merged buffers', async () => {
    const config = new Uint8Array(VIRTIO_NET_CONFIG.offset.mtu + VIRTIO_NET_CONFIG.width.mtu);
    new DataView(config.buffer).setUint16(VIRTIO_NET_CONFIG.offset.mtu, MTU_JUMBO, true);
    config[VIRTIO_NET_CONFIG.offset.max_virtqueue_pairs] = 1;
    const options = { link: { config }, driver: { rxBufferSize: 2048 } };
    await forwarding('io', options, async (driver) => {
      expect([driver.mtu, hasFeature(driver.features, VIRTIO_NET_F_MRG_RXBUF)]).toEqual([MTU_JUMBO, true]);
      const frames = [60, 2036, 2037, 4084, 4085, 8999, 9014].map((size) => experiment(size, size));
      const { wanted, found } = await exchange(driver, new Inbox(driver), frames, (frame) => frame);
      expect(found).toEqual(wanted);
      await testpmd.stop();
    });
  });

  it('io: thousands of frames in a row, none lost, none out of order', async () => {
    await forwarding('io', { driver: { ringFeatures: RING_FEATURES | PACKED } }, async (driver) => {
      const frames = Array.from({ length: 6000 }, (_, at) => experiment(SMALLEST + (at % 200), at));
      const { wanted, found } = await exchange(driver, new Inbox(driver), frames, (frame) => frame);
      expect(found).toEqual(wanted);
      expect(await testpmd.stop()).toMatchObject([{ rxPackets: 6000, txPackets: 6000 }]);
    });
  });

  it('5tswap: addresses and ports come back exchanged', async () => {
    await forwarding('5tswap', {}, async (driver) => {
      const frames = ALL_SIZES.filter((size) => size % 7 === 0).map((size) => datagram(size, size));
      const { wanted, found } = await exchange(driver, new Inbox(driver), frames, withTupleSwapped);
      expect(found).toEqual(wanted);
      await testpmd.stop();
    });
  });

  it('icmpecho: ARP requests and pings are answered', async () => {
    await forwarding('icmpecho', {}, async (driver) => {
      const inbox = new Inbox(driver);
      await sendAll(driver, [arpRequest()]);
      const reply = Buffer.from((await inbox.take(1))[0]!, 'hex');
      expect(text(reply.subarray(0, 6)), 'to who asked').toBe(text(OURS));
      expect(reply.readUInt16BE(20), 'ARP operation: reply').toBe(2);
      for (const size of [64, 98, 1000, 1514]) {
        const request = echoRequest(size);
        await sendAll(driver, [request]);
        const answer = Buffer.from((await inbox.take(1))[0]!, 'hex');
        expect([answer.length, answer[ICMP]], 'echo reply').toEqual([size, 0]);
        expect(text(answer.subarray(0, 12))).toBe(text(Uint8Array.of(...OURS, ...THEIRS)));
        expect([checksum(answer.subarray(IP, ICMP)), checksum(answer.subarray(ICMP))]).toEqual([0, 0]);
        expect(text(answer.subarray(ICMP + 4)), 'id, number and data').toBe(text(request.subarray(ICMP + 4)));
      }
      await testpmd.stop();
    });
  });

  it('rxonly: everything that is sent is counted, as fast as it goes', async () => {
    await forwarding('rxonly', {}, async (driver) => {
      const frames = Array.from({ length: 5000 }, (_, at) => experiment(64, at));
      await sendAll(driver, frames);
      await testpmd.counted(({ rxPackets }) => rxPackets >= frames.length);
      expect(await testpmd.stop()).toMatchObject([{ rxPackets: 5000, rxDropped: 0 }]);
      expect((await testpmd.portStatistics())[0]).toMatchObject({ rxPackets: 5000, rxBytes: 5000 * 64 });
    });
  });

  it.each([
    ['split', RING_FEATURES],
    ['packed', RING_FEATURES | PACKED],
  ])('txonly, %s: what testpmd makes arrives whole, and as often as it counted', async (_, ringFeatures) => {
    await testpmd.command('set txpkts 200');
    await forwarding('txonly', { driver: { ringFeatures } }, async (driver) => {
      let broken = 0;
      const inbox = new Inbox(driver, (frame) => {
        const isWhole = frame.length === 200 && checksum(frame.subarray(IP, ICMP)) === 0;
        if (!isWhole) broken += 1;
        return false;
      });
      await inbox.counted(5000);
      await testpmd.stop();
      const [{ txPackets, txBytes } = { txPackets: 0, txBytes: 0 }] = await testpmd.portStatistics();
      await inbox.counted(txPackets);
      expect([inbox.count, inbox.size, broken]).toEqual([txPackets, txBytes, 0]);
    });
  });

  it('§5.1.9.5.5 two pairs of queues: flows go over both', async () => {
    const options = { driver: { queuePairs: 2 }, link: { queueCount: 4 } };
    await withDrivenCard(path, options, async (driver) => {
      expect([driver.queuePairs, hasFeature(driver.features, VIRTIO_NET_F_MQ)]).toEqual([2, true]);
      await testpmd.command('set fwd macswap');
      await testpmd.start();
      const frames = Array.from({ length: 1000 }, (_, at) => datagram(100 + at, at));
      const { wanted, found } = await exchange(driver, new Inbox(driver), frames, withMacsSwapped);
      expect(found.toSorted(), 'in order within a flow only').toEqual(wanted.toSorted());
      const output = await testpmd.command('stop');
      for (const queue of [0, 1]) {
        const [, count] =
          new RegExp(`RX Port= 0/Queue= ${queue} .*\\s+RX-packets: (\\d+)`).exec(output) ?? [];
        expect(Number(count), `frames of queue ${queue}`).toBeGreaterThan(100);
      }
    });
  });

  it('§3.1.1 opened, closed and opened again over one connection', async () => {
    for (let round = 0; round < 3; round += 1) {
      const ringFeatures = round === 1 ? PACKED : RING_FEATURES;
      await forwarding('macswap', { driver: { ringFeatures } }, async (driver) => {
        const frames = [60, 700, 1514].map((size) => experiment(size, round));
        const { wanted, found } = await exchange(driver, new Inbox(driver), frames, withMacsSwapped);
        expect(found).toEqual(wanted);
        await testpmd.stop();
      });
    }
  });

  it('§2.2 a driver that wants less gets less', async () => {
    const wanted = featureBits(VIRTIO_NET_F_MRG_RXBUF);
    await withDrivenCard(path, { driver: { wanted, ringFeatures: 0n } }, async ({ features }) => {
      expect(features).toBe(featureBits(VIRTIO_NET_F_MRG_RXBUF, VIRTIO_F_VERSION_1));
    });
  });
});
