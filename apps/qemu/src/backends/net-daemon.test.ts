import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { VIRTIO_F_RING_PACKED, featureBit } from '@virtlab/abi/virtio';
import { VIRTIO_NET_F_MRG_RXBUF } from '@virtlab/abi/virtio-net';
import { RING_FEATURES } from '@virtlab/virtio';
import {
  NET_DRIVER_ALL_FEATURES,
  NET_DRIVER_FEATURES,
  type NetDriver,
  type NetDriverOptions,
  createNetDriver,
} from '@virtlab/virtio-net';
import { words } from '../qtest/testing/command-line.ts';
import { describeWithQemu } from '../qtest/testing/describe-with-qemu.ts';
import { BROADCAST, Inbox, frame, mac, macText, sendAll, text } from '../qtest/testing/frames.ts';
import { SharedMachine, settle } from '../qtest/testing/shared-machine.ts';
import { until } from '../qtest/testing/until.ts';
import type { Daemon } from './testing/daemon.ts';
import { DaemonFolder } from './testing/daemons.ts';

/** Two cards on a switch of ours, one that joins it by a stream, and one of another daemon with the same switch. */
const ONE = 3;
const OTHER = 4;
const STREAM = 5;
const ELSEWHERE = 6;
const PAIRS = 7;
const MTU = 9000;
const PACKED = featureBit(VIRTIO_F_RING_PACKED);

// With vectors QEMU 7.2 crashes when a vhost-user card starts under TCG; without, calls are INTx.
function card(slot: number, more: string): string {
  const address = `mac=${macText(mac(slot))},addr=${slot}`;
  return `-device virtio-net-pci,netdev=n${slot},${address},romfile=,vectors=0,packed=on,${more}`;
}

function vhostUserCard(slot: number, path: string, queues = 1): string {
  const more = queues > 1 ? 'mq=on,rx_queue_size=256' : `host_mtu=${MTU}`;
  return `
    -chardev socket,id=c${slot},path=${path}
    -netdev vhost-user,id=n${slot},chardev=c${slot},queues=${queues}
    ${card(slot, more)}`;
}

describeWithQemu("virtlab vhost-user-net behind QEMU's -netdev vhost-user, under our driver", () => {
  let pairsDaemon: Daemon;
  const folder = new DaemonFolder(async () => {
    const socket = (slot: number): readonly string[] => ['--socket-path', folder.file(`s${slot}`)];
    const stream = ['--stream', folder.file('stream')];
    const first = [...socket(ONE), ...socket(OTHER), ...stream, '--pcap', folder.file('pcap')];
    await folder.start('vhost-user-net', ...first, '--mtu', String(MTU));
    await folder.start('vhost-user-net', ...socket(ELSEWHERE), ...stream, '--mtu', String(MTU));
    pairsDaemon = await folder.start(
      'vhost-user-net',
      ...socket(PAIRS),
      ...stream,
      '--num-queues',
      '2',
      '--mtu',
      String(MTU),
    );
  });
  const shared = new SharedMachine({
    memorySize: 96 << 20,
    devices: () =>
      words(`
        ${vhostUserCard(ONE, folder.file(`s${ONE}`))}
        ${vhostUserCard(OTHER, folder.file(`s${OTHER}`))}
        -netdev stream,id=n${STREAM},server=off,addr.type=unix,addr.path=${folder.file('stream')}
        ${card(STREAM, `host_mtu=${MTU}`)}
        ${vhostUserCard(ELSEWHERE, folder.file(`s${ELSEWHERE}`))}
        ${vhostUserCard(PAIRS, folder.file(`s${PAIRS}`), 2)}
      `),
  });

  const withCards = async (
    slots: readonly number[],
    body: (...drivers: NetDriver[]) => Promise<void>,
    options: Partial<NetDriverOptions> = {},
  ): Promise<void> => {
    const ends: (() => Promise<unknown>)[] = [];
    const drivers: NetDriver[] = [];
    try {
      for (const slot of slots) {
        const { link, close } = await shared.foreign(slot);
        ends.push(async () => expect(await close()).toEqual([]));
        const driver = await createNetDriver(link, { aio: shared.aio, ...options });
        ends.push(() => driver.close());
        drivers.push(driver);
      }
      await body(...drivers);
    } finally {
      for (const end of ends.toReversed()) await end();
    }
  };

  /** How many frames came as they were sent, there and back. */
  const exchange = async (one: NetDriver, other: NetDriver, sizes: readonly number[]): Promise<number> => {
    for (const [from, to] of [
      [one, other],
      [other, one],
    ] as const) {
      const inbox = new Inbox(to);
      const sent = sizes.map((size, at) => frame(to.mac, from.mac, size, at));
      await sendAll(from, sent);
      expect(await inbox.take(sent.length)).toEqual(sent.map(text));
      expect(to.statistics.rxDropped).toBe(0);
    }
    return 2 * sizes.length;
  };
  const SIZES = [60, 61, 1513, 1514, 2036, 2049, 4096, 9000, 9014];

  const variants: readonly (readonly [string, bigint, bigint])[] = [
    ['as they come', RING_FEATURES, 0n],
    ['packed rings', RING_FEATURES | PACKED, 0n],
    ['plain rings', 0n, 0n],
    ['no merged buffers', RING_FEATURES, featureBit(VIRTIO_NET_F_MRG_RXBUF)],
  ];
  it.each(variants)(
    '§5.1.9 frames of all sizes go from card to card and back, %s',
    async (_, ringFeatures, without) => {
      const options = { ringFeatures, wanted: NET_DRIVER_FEATURES & ~without };
      await withCards(
        [ONE, OTHER],
        async (one, other) => {
          expect([one.mtu, text(one.mac)]).toEqual([MTU, text(mac(ONE))]);
          await exchange(one, other, SIZES);
        },
        options,
      );
    },
  );

  it('§5.1.9 many frames both ways at once stay in order', async () => {
    await withCards([ONE, OTHER], async (one, other) => {
      const inboxes = [new Inbox(one), new Inbox(other)] as const;
      const make = (to: NetDriver, from: NetDriver): Uint8Array[] =>
        Array.from({ length: 200 }, (_, at) => frame(to.mac, from.mac, 60 + at, at));
      const [toOther, toOne] = [make(other, one), make(one, other)];
      await Promise.all([sendAll(one, toOther), sendAll(other, toOne)]);
      expect(await inboxes[1].take(200)).toEqual(toOther.map(text));
      expect(await inboxes[0].take(200)).toEqual(toOne.map(text));
    });
  });

  it('-netdev stream: a card without vhost-user is on the same switch', async () => {
    await withCards([ONE, STREAM], async (one, joined) => {
      expect(await exchange(one, joined, SIZES)).toBe(2 * SIZES.length);
    });
  });

  it('daemons that are joined by a stream are one switch', async () => {
    await withCards([ONE, ELSEWHERE], async (one, elsewhere) => {
      expect(await exchange(one, elsewhere, SIZES)).toBe(2 * SIZES.length);
    });
  });

  it('a broadcast reaches everybody but its sender', async () => {
    await withCards([ONE, OTHER, STREAM, ELSEWHERE], async (...drivers) => {
      const inboxes = drivers.map((driver) => new Inbox(driver));
      const sent = frame(BROADCAST, drivers[0]!.mac, 200, 7);
      await sendAll(drivers[0]!, [sent]);
      for (const inbox of inboxes.slice(1)) expect(await inbox.take(1)).toEqual([text(sent)]);
      await settle();
      expect(inboxes[0]!.frames).toEqual([]);
    });
  });

  it('§5.1.9.5.5 two pairs of queues: QEMU answers the control queue, our card serves what is enabled', async () => {
    await withCards(
      [PAIRS],
      async (pairs) => {
        await withCards([ONE], async (one) => {
          const sizes = SIZES.filter((size) => size <= 1514);
          expect(await exchange(one, pairs, sizes)).toBe(2 * sizes.length);
        });
        for (const index of [0, 1, 2, 3]) {
          await pairsDaemon.heard(({ queue, state }) => queue === index && state === 'started');
        }
      },
      { wanted: NET_DRIVER_ALL_FEATURES, queuePairs: 2 },
    );
  });

  describe('--pcap', () => {
    it('has what went through the switch', async () => {
      await withCards([ONE, OTHER], async (one, other) => {
        expect(await exchange(one, other, [1234])).toBe(2);
      });
      const wanted = Buffer.from(frame(mac(OTHER), mac(ONE), 1234, 0));
      await until('it is captured', () => readFileSync(folder.file('pcap')).includes(wanted));
    });
  });
});
