import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_GSO_TCPV4,
} from '@virtlab/abi/virtio-net';
import { featureBit, hasFeature } from '@virtlab/abi/virtio';
import { TapDevice } from '@virtlab/linux';
import { NetworkNamespace } from '@virtlab/linux/testing';
import {
  NET_DRIVER_FEATURES,
  NET_DRIVER_OFFLOADS,
  NO_OFFLOAD,
  type NetDriver,
  type NetDriverOptions,
  createNetDriver,
} from '@virtlab/virtio-net';
import { words } from './testing/command-line.ts';
import { describeWithQemu } from './testing/describe-with-qemu.ts';
import { IpStation } from './testing/ip-station.ts';
import { sendAll } from './testing/frames.ts';
import { SharedMachine, settle } from './testing/shared-machine.ts';

const reason = NetworkNamespace.unavailable();
// VIRTLAB_NO_NETNS=1: whoever runs the tests knows that this machine does not allow it, and has said so.
const isRequired = process.env['VIRTLAB_REQUIRE_PEERS'] === '1' && process.env['VIRTLAB_NO_NETNS'] !== '1';
if (reason !== undefined && isRequired) throw new Error(reason);

const SLOT = 3;
const PAIR_COUNT = 2;
const INTERFACE = 'vl0';
const OFFLOADS = NET_DRIVER_FEATURES | NET_DRIVER_OFFLOADS;

describe.skipIf(reason !== undefined)(
  `a TAP interface behind QEMU${reason === undefined ? '' : ` (${reason})`}`,
  () => {
    describeWithQemu("our net driver and the kernel, through QEMU's virtio-net-pci", () => {
      let namespace: NetworkNamespace;
      const taps: TapDevice[] = [];
      beforeAll(async () => {
        namespace = await NetworkNamespace.create();
      });
      afterAll(async () => {
        await namespace[Symbol.asyncDispose]();
      });
      const shared = new SharedMachine({
        devices: (pass) => {
          for (let pair = 0; pair < PAIR_COUNT; pair += 1) {
            taps.push(TapDevice.open({ name: INTERFACE, namespace: namespace.path, isMultiQueue: true }));
          }
          const fds = taps.map((tap) => pass(tap.fd)).join(':');
          return words(`
          -netdev tap,id=n0,fds=${fds},vhost=off
          -device virtio-net-pci,netdev=n0,addr=${SLOT},romfile=,mq=on,vectors=8,mac=52:54:00:12:34:03
        `);
        },
      });
      beforeAll(async () => {
        for (const tap of taps) tap.close();
        await namespace.check('ip', 'address', 'add', '10.77.0.1/24', 'dev', INTERFACE);
        await namespace.check('ip', 'link', 'set', INTERFACE, 'up', 'mtu', '1500');
        const neighbour = ['10.77.0.2', 'lladdr', '52:54:00:12:34:03', 'dev', INTERFACE];
        await namespace.check('ip', 'neighbour', 'add', ...neighbour);
      });

      const withStation = async (
        wanted: bigint,
        body: (station: IpStation, driver: NetDriver) => Promise<void>,
        options: Partial<NetDriverOptions> = {},
      ): Promise<void> => {
        const { link, close } = await shared.foreign(SLOT);
        const driver = await createNetDriver(link, { aio: shared.aio, wanted, ...options });
        try {
          const shown = await namespace.check('ip', '-o', 'link', 'show', INTERFACE);
          await body(new IpStation(driver, /ether (\S+)/.exec(shown)![1]!), driver);
        } finally {
          await driver.close();
          expect(await close()).toEqual([]);
        }
      };

      it.each([
        ['with offloads', OFFLOADS],
        ['without', NET_DRIVER_FEATURES],
      ])(
        'the kernel answers echo requests of any size whose checksum is left to others, %s',
        async (_, wanted) => {
          await withStation(wanted, async (station, driver) => {
            expect(driver.accepts !== 0).toBe(wanted === OFFLOADS);
            for (const size of [0, 1, 56, 1472]) {
              station.sendEcho(size);
              const answer = await station.next((packet) => packet.protocol === 1);
              expect(answer.payload.length).toBe(8 + size);
            }
            expect(driver.software.checksums > 0).toBe(wanted !== OFFLOADS);
          });
        },
      );

      it('§5.1.9.2 a segment of 20,000 bytes reaches the kernel in one piece', async () => {
        await withStation(OFFLOADS, async (station) => {
          station.sendSegment(20_000);
          const answer = await station.next((packet) => packet.protocol === 6);
          // No such connection: a reset that acknowledges all that was sent (RFC 9293 §3.10.7.1).
          expect(answer.acknowledged).toBe(IpStation.SEQUENCE + 20_000);
        });
      });

      it.each([
        ['negotiated: left to us', OFFLOADS, true],
        ['not negotiated: done by the other side', NET_DRIVER_FEATURES, false],
      ])('§5.1.9.4 the checksum of what the kernel sends, %s', async (_, wanted, isLeft) => {
        await withStation(wanted, async (station) => {
          await namespace.check('bash', '-c', 'echo hello > /dev/udp/10.77.0.2/7');
          const packet = await station.next(({ protocol }) => protocol === 17);
          expect((packet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) !== 0).toBe(isLeft);
          expect(Buffer.from(packet.payload.subarray(8)).toString()).toBe('hello\n');
        });
      });

      it('§5.1.9.4 with GUEST_TSO4 the kernel’s segments come whole, and switched off they do not', async () => {
        await withStation(OFFLOADS, async (station, driver) => {
          const largest = async (): Promise<readonly [size: number, gsoType: number]> => {
            const sending = namespace.run('bash', ['-c', 'head -c 6000 /dev/zero > /dev/tcp/10.77.0.2/9']);
            const [size, gsoType] = await station.accept(6000);
            await sending;
            return [size, gsoType];
          };
          const [size, gsoType] = await largest();
          expect(size).toBeGreaterThan(1514);
          expect(gsoType).toBe(VIRTIO_NET_HDR_GSO_TCPV4);
          await driver.control!.setGuestOffloads(0n);
          expect((await largest())[0]).toBeLessThanOrEqual(1514);
        });
      });

      it('§5.1.5.1 two pairs of queues: the kernel answers on both, and on one when told so', async () => {
        const wanted = NET_DRIVER_FEATURES | featureBit(VIRTIO_NET_F_MQ);
        await withStation(
          wanted,
          async (station, driver) => {
            expect([hasFeature(driver.features, VIRTIO_NET_F_MQ), driver.queuePairs]).toEqual([
              true,
              PAIR_COUNT,
            ]);
            const pairs = new Set<number>();
            for (let port = 0; port < 32; port += 1) {
              station.sendSegment(100, 40_000 + port);
              pairs.add((await station.next((packet) => packet.protocol === 6)).pair);
            }
            expect(pairs).toEqual(new Set([0, 1]));
            await driver.control!.setQueuePairs(1);
            for (let port = 0; port < 8; port += 1) {
              station.sendSegment(100, 41_000 + port);
              expect((await station.next((packet) => packet.protocol === 6)).pair).toBe(0);
            }
          },
          { queuePairs: PAIR_COUNT },
        );
      });

      it('frames that are left finished are as they were', async () => {
        await withStation(OFFLOADS, async (_station, driver) => {
          await sendAll(driver, [new Uint8Array(60)]);
          expect(driver.send(new Uint8Array(60), NO_OFFLOAD)).toBe(true);
          await settle();
          expect(driver.failure).toBeUndefined();
        });
      });
    });
  },
);
