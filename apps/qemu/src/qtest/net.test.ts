import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { VIRTIO_F_RING_PACKED, VIRTIO_ID_NET, featureBit, hasFeature } from '@virtlab/abi/virtio';
import {
  VIRTIO_NET_F_CTRL_VLAN,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_GUEST_ANNOUNCE,
  VIRTIO_NET_F_MRG_RXBUF,
} from '@virtlab/abi/virtio-net';
import { socketPair, closeFd } from '@virtlab/linux';
import { RING_FEATURES } from '@virtlab/virtio';
import { describeForeignDevice } from '@virtlab/virtio/conformance';
import {
  NET_DRIVER_FEATURES,
  type NetDriver,
  type NetDriverOptions,
  createNetDriver,
} from '@virtlab/virtio-net';
import { FrameStream } from './frame-stream.ts';
import { words } from './testing/command-line.ts';
import { describeWithQemu } from './testing/describe-with-qemu.ts';
import { QEMU_DIVERGENCES } from './testing/divergences.ts';
import { BROADCAST, Inbox, frame, mac, macText, sendAll, text } from './testing/frames.ts';
import { RequestClient, TRANSMIT_REQUEST } from './testing/request-client.ts';
import { SharedMachine, settle } from './testing/shared-machine.ts';

/** Two cards on a hub, and one whose other end is ours. */
const HUB = [3, 4] as const;
const STREAM = 5;
const TRANSMIT = 1;
/** EtherType of RARP, as in a frame. */
const TYPE_RARP = '8035';
const PACKED = featureBit(VIRTIO_F_RING_PACKED);

function devices(streamFd: number): string[] {
  const card = (slot: number, more: string): string =>
    `-device virtio-net-pci,id=c${slot},netdev=n${slot},addr=${slot},romfile=,mac=${macText(mac(slot))},${more}`;
  const onHub = HUB.map(
    (slot) =>
      `-netdev hubport,id=n${slot},hubid=0 ${card(slot, 'packed=on,rx_queue_size=1024,host_mtu=9000')}`,
  );
  return words(`
    ${onHub.join(' ')}
    -netdev stream,id=n${STREAM},server=off,addr.type=fd,addr.str=${streamFd}
    ${card(STREAM, 'packed=on,rx_queue_size=1024')}
  `);
}

describeWithQemu("our net driver on QEMU's virtio-net-pci", () => {
  let stream: FrameStream;
  let theirs: number;
  const shared = new SharedMachine({
    devices: (pass) => {
      const [ours, other] = socketPair();
      stream = new FrameStream(ours);
      theirs = other;
      return devices(pass(other));
    },
  });
  beforeAll(() => closeFd(theirs));
  afterAll(() => stream[Symbol.dispose]());

  const withCard = async (
    slot: number,
    body: (driver: NetDriver) => Promise<void>,
    options: Partial<NetDriverOptions> = {},
  ): Promise<void> => {
    const { link, close } = await shared.foreign(slot);
    const driver = await createNetDriver(link, { aio: shared.aio, ...options });
    try {
      await body(driver);
    } finally {
      await driver.close();
      expect(await close()).toEqual([]);
    }
  };

  describeForeignDevice({
    name: 'net, its transmit queue',
    deviceType: VIRTIO_ID_NET,
    queue: TRANSMIT,
    create: () => shared.foreign(STREAM),
    createClient: (session) => new RequestClient(session, TRANSMIT, TRANSMIT_REQUEST),
    divergences: QEMU_DIVERGENCES,
  });

  const variants: readonly (readonly [string, bigint, bigint])[] = [
    ['as they come', RING_FEATURES, 0n],
    ['packed rings', RING_FEATURES | PACKED, 0n],
    ['plain rings', 0n, 0n],
    ['no merged buffers', RING_FEATURES, featureBit(VIRTIO_NET_F_MRG_RXBUF)],
    ['no control queue', RING_FEATURES, featureBit(VIRTIO_NET_F_CTRL_VQ)],
  ];
  it.each(variants)(
    '§5.1.9 frames of all sizes go from card to card and back, %s',
    async (_, ringFeatures, without) => {
      const options = { ringFeatures, wanted: NET_DRIVER_FEATURES & ~without };
      await withCard(
        HUB[0],
        async (one) => {
          await withCard(
            HUB[1],
            async (other) => {
              expect([one.mtu, text(one.mac)]).toEqual([9000, text(mac(HUB[0]))]);
              for (const [from, to] of [
                [one, other],
                [other, one],
              ] as const) {
                const inbox = new Inbox(to);
                const sizes = [60, 61, 1513, 1514, 2036, 2049, 4096, 9000, 9014];
                const sent = sizes.map((size, at) => frame(to.mac, from.mac, size, at));
                await sendAll(from, sent);
                expect(await inbox.take(sent.length)).toEqual(sent.map(text));
                expect(to.statistics.rxDropped).toBe(0);
              }
            },
            options,
          );
        },
        options,
      );
    },
  );

  it('§5.1.9 many frames both ways at once stay in order, calls instead of polling', async () => {
    // More buffers than frames: what waits in QEMU's queue for a buffer may be overtaken there.
    const options = { polling: false, queueSize: 1024 };
    await withCard(
      HUB[0],
      async (one) => {
        await withCard(
          HUB[1],
          async (other) => {
            const inboxes = [new Inbox(one), new Inbox(other)] as const;
            const make = (to: NetDriver, from: NetDriver): Uint8Array[] =>
              Array.from({ length: 300 }, (_, at) => frame(to.mac, from.mac, 60 + at, at));
            const [toOther, toOne] = [make(other, one), make(one, other)];
            await Promise.all([sendAll(one, toOther), sendAll(other, toOne)]);
            expect(await inboxes[1].take(300)).toEqual(toOther.map(text));
            expect(await inboxes[0].take(300)).toEqual(toOne.map(text));
            expect(one.statistics).toMatchObject({ txFrames: 300, rxFrames: 300, txDropped: 0 });
          },
          options,
        );
      },
      options,
    );
  });

  describe('the other end is ours', () => {
    it('§5.1.9 frames come out as they were sent, and go in', async () => {
      await withCard(STREAM, async (driver) => {
        const [inbox, outbox] = [new Inbox(driver), new Inbox(stream)];
        const sent = Array.from({ length: 100 }, (_, at) => frame(mac(99), driver.mac, 60 + 14 * at, at));
        await sendAll(driver, sent);
        expect(await outbox.take(sent.length)).toEqual(sent.map(text));
        const back = sent.map((_, at) => frame(driver.mac, mac(99), 60 + 14 * at, at + 7));
        for (const bytes of back) stream.send(bytes);
        expect(await inbox.take(back.length)).toEqual(back.map(text));
      });
    });

    it('§5.1.9 rings of sixteen do, for a sender that asks again and again for room', async () => {
      await withCard(
        STREAM,
        async (driver) => {
          const [inbox, outbox] = [new Inbox(driver), new Inbox(stream)];
          const sent = Array.from({ length: 200 }, (_, at) => frame(mac(99), driver.mac, 60 + at, at));
          for (const bytes of sent) stream.send(bytes);
          await sendAll(driver, sent);
          expect(await outbox.take(sent.length)).toEqual(sent.map(text));
          expect(await inbox.take(sent.length)).toEqual(sent.map(text));
        },
        { queueSize: 16, polling: false },
      );
    });

    it('frames that came while the machine was stopped are there when it goes on', async () => {
      await withCard(STREAM, async (driver) => {
        const inbox = new Inbox(driver);
        shared.machine.execute('stop');
        stream.send(frame(driver.mac, mac(99), 60, 1));
        expect(shared.machine.execute('query-status')).toMatchObject({ running: false });
        shared.machine.execute('cont');
        expect(await inbox.take(1)).toHaveLength(1);
      });
    });

    it('§5.1.4 the link goes down and up, and frames with it', async () => {
      await withCard(STREAM, async (driver) => {
        const told: boolean[] = [];
        driver.onLinkChange((up) => told.push(up));
        for (const up of [false, true]) {
          shared.machine.execute('set_link', { name: `c${STREAM}`, up });
          while (told.at(-1) !== up) await settle();
          expect(driver.linkUp).toBe(up);
          await sendAll(driver, [frame(mac(99), driver.mac, 60, Number(up))]);
        }
        const outbox = new Inbox(stream);
        expect(await outbox.take(1)).toEqual([text(frame(mac(99), driver.mac, 60, 1))]);
        expect(driver.statistics.txDropped).toBe(1);
      });
    });

    it('§5.1.9.5.4 the station is asked to announce itself, and the request ends when it did', async () => {
      await withCard(STREAM, async (driver) => {
        expect(hasFeature(driver.features, VIRTIO_NET_F_GUEST_ANNOUNCE)).toBe(true);
        const told: string[] = [];
        driver.onAnnounce(() => told.push('driver'));
        stream.onFrame((bytes) => told.push(text(bytes.subarray(12, 14))));
        const timing = { initial: 20, max: 20, rounds: 2, step: 0, id: 'suite' };
        shared.machine.execute('announce-self', timing);
        while (!told.includes('driver') || !told.includes(TYPE_RARP)) await settle();
        shared.machine.execute('announce-self', { ...timing, rounds: 0 });
        expect(driver.failure).toBeUndefined();
      });
    });
  });

  describe('§5.1.9.5 the control queue', () => {
    /** What of these arrives at the card. */
    const received = async (driver: NetDriver, sent: readonly Uint8Array[]): Promise<number[]> => {
      const inbox = new Inbox(driver);
      const last = frame(driver.mac, mac(99), 64, 0xee);
      for (const bytes of [...sent, last]) stream.send(bytes);
      while (inbox.frames.at(-1) !== text(last)) await settle();
      return sent.flatMap((bytes, at) => (inbox.frames.includes(text(bytes)) ? [at] : []));
    };

    it('addresses that are received are its own, broadcast, and those in the tables', async () => {
      await withCard(STREAM, async (driver) => {
        const control = driver.control!;
        const group = Uint8Array.of(1, 0, 0x5e, 0, 0, 9);
        const sent = [driver.mac, BROADCAST, mac(77), group].map((to, at) => frame(to, mac(99), 60, at));
        expect(await received(driver, sent), 'a card is promiscuous after a reset').toEqual([0, 1, 2, 3]);
        await control.setMode('promiscuous', false);
        expect(await received(driver, sent)).toEqual([0, 1]);
        await control.setMacTables([mac(77)], [group]);
        expect(await received(driver, sent)).toEqual([0, 1, 2, 3]);
        await control.setMacTables([], []);
        await control.setMode('allMulticast', true);
        expect(await received(driver, sent)).toEqual([0, 1, 3]);
        await control.setMode('allMulticast', false);
        await control.setMode('noBroadcast', true);
        expect(await received(driver, sent)).toEqual([0]);
        await control.setMode('noBroadcast', false);
        await control.setMode('allUnicast', true);
        expect(await received(driver, sent)).toEqual([0, 1, 2]);
      });
    });

    it('the card’s address is what it is told', async () => {
      await withCard(STREAM, async (driver) => {
        await driver.control!.setMode('promiscuous', false);
        await driver.control!.setMac(mac(55));
        expect(text(driver.mac)).toBe(text(mac(55)));
        const sent = [mac(55), mac(STREAM)].map((to, at) => frame(to, mac(99), 60, at));
        expect(await received(driver, sent)).toEqual([0]);
      });
    });

    it('only networks that were added are received', async () => {
      const wanted = NET_DRIVER_FEATURES | featureBit(VIRTIO_NET_F_CTRL_VLAN);
      await withCard(
        STREAM,
        async (driver) => {
          const control = driver.control!;
          await control.setMode('promiscuous', false);
          const sent = [5, 6].map((vlan) => frame(driver.mac, mac(99), 64, vlan, vlan));
          expect(await received(driver, sent)).toEqual([]);
          await control.addVlan(5);
          expect(await received(driver, sent)).toEqual([0]);
          await control.addVlan(6);
          await control.removeVlan(5);
          expect(await received(driver, sent)).toEqual([1]);
        },
        { wanted },
      );
    });

    it('what makes no sense is refused, and nothing else suffers', async () => {
      await withCard(STREAM, async (driver) => {
        await expect(
          driver.control!.setCoalescing('rx', { maxPackets: 1, maxUsecs: 1 }),
        ).rejects.toMatchObject({
          code: 'ENOTSUP',
        });
        const many = Array.from({ length: 100 }, (_, at) => mac(at));
        await driver.control!.setMacTables(many, many);
        expect(await received(driver, [frame(mac(200), mac(99), 60, 1)])).toEqual([0]);
      });
    });
  });

  it('§2.6.1 a transmit and a receive queue that were reset alone go on', async () => {
    await withCard(STREAM, async (driver) => {
      const [inbox, outbox] = [new Inbox(driver), new Inbox(stream)];
      for (const queue of [TRANSMIT, 0, TRANSMIT, 0]) {
        await driver.resetQueue(queue);
        const [out, back] = [frame(mac(99), driver.mac, 200, queue), frame(driver.mac, mac(99), 300, queue)];
        await sendAll(driver, [out]);
        expect(await outbox.take(1)).toEqual([text(out)]);
        stream.send(back);
        expect(await inbox.take(1)).toEqual([text(back)]);
      }
      expect(driver.failure).toBeUndefined();
    });
  });
});
