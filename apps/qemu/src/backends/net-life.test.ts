import { once } from 'node:events';
import { createServer } from 'node:net';
import { expect, it } from 'vitest';
import { createNodeAioContext } from '@virtlab/aio/node';
import { type NetDriver, createNetDriver } from '@virtlab/virtio-net';
import { connectVirtioPci } from '@virtlab/virtio-pci';
import { QemuMachine, slotBdf } from '../qtest/qemu-machine.ts';
import { words } from '../qtest/testing/command-line.ts';
import { describeWithQemu } from '../qtest/testing/describe-with-qemu.ts';
import { Inbox, frame, mac, macText, sendAll, text } from '../qtest/testing/frames.ts';
import { until } from '../qtest/testing/until.ts';
import type { Daemon } from './testing/daemon.ts';
import { DaemonFolder } from './testing/daemons.ts';

const SLOTS = [3, 4] as const;

interface Cards {
  readonly one: NetDriver;
  readonly other: NetDriver;
  /** What comes to the other. */
  readonly inbox: Inbox;
}

// QEMU asks again after a second, and does nothing else before it has found somebody.
function card(slot: number, path: string): string[] {
  return words(`
    -chardev socket,id=c${slot},path=${path},reconnect=1
    -netdev vhost-user,id=n${slot},chardev=c${slot}
    -device virtio-net-pci,netdev=n${slot},mac=${macText(mac(slot))},addr=${slot},romfile=,vectors=0
  `);
}

/** Listens, ends the first connection as soon as it is there, and listens no more. */
async function turnAway(path: string): Promise<void> {
  const server = createServer((connection) => {
    connection.destroy();
    server.close();
  });
  server.listen(path);
  await once(server, 'close');
}

describeWithQemu('virtlab vhost-user-net comes and goes', () => {
  const folder = new DaemonFolder();

  /** A machine with two cards of one daemon, which `start` starts once QEMU tries to connect, and its end without a fault. */
  const withCards = async (
    name: string,
    start: (serve: () => Promise<Daemon>, firstSocket: string) => Promise<void>,
    body: (cards: Cards, daemon: Daemon, restart: () => Promise<void>) => Promise<void>,
  ): Promise<void> => {
    const aio = createNodeAioContext();
    const socket = (slot: number): string => folder.file(`${name}${slot}`);
    let daemon: Daemon | undefined;
    const serve = async (): Promise<Daemon> => {
      const places = SLOTS.flatMap((slot) => ['--socket-path', socket(slot)]);
      return (daemon = await folder.start('vhost-user-net', ...places));
    };
    const starting = start(serve, socket(SLOTS[0]));
    const machine = new QemuMachine({
      aio,
      devices: () => SLOTS.flatMap((slot) => card(slot, socket(slot))),
    });
    try {
      await starting;
      machine.assignBars();
      const { access, interrupts, dma } = machine;
      const connect = async (slot: number): Promise<NetDriver> => {
        const link = await connectVirtioPci({ access, bdf: slotBdf(slot), interrupts, dma, aio });
        return await createNetDriver(link, { aio });
      };
      const [one, other] = [await connect(SLOTS[0]), await connect(SLOTS[1])];
      const restart = async (): Promise<void> => void (await serve());
      await body({ one, other, inbox: new Inbox(other) }, daemon!, restart);
      for (const driver of [one, other]) await driver.close();
    } finally {
      await machine.close();
      aio[Symbol.dispose]();
    }
    for (const slot of SLOTS) {
      const end = await daemon!.heard(
        (each) => each.event === 'disconnected' && each['socket'] === socket(slot),
      );
      expect(end['reason']).toBeUndefined();
    }
  };

  /** How many frames of one came to the other, as they were sent. */
  const exchange = async ({ one, other, inbox }: Cards, mark: number): Promise<number> => {
    const sent = frame(other.mac, one.mac, 300, mark);
    await sendAll(one, [sent]);
    return (await inbox.take(1)).filter((frameText) => frameText === text(sent)).length;
  };

  it('connect-fail: QEMU is turned away, finds nobody, and then a daemon', async () => {
    await withCards(
      'fail',
      async (serve, firstSocket) => {
        await turnAway(firstSocket);
        await serve();
      },
      async (cards) => expect(await exchange(cards, 1)).toBe(1),
    );
  });

  it('QEMU may come first; a daemon that is killed and started again is a cable pulled and plugged', async () => {
    await withCards(
      'first',
      async (serve) => void (await serve()),
      async (cards, daemon, restart) => {
        const { one, other } = cards;
        expect(await exchange(cards, 1)).toBe(1);
        folder.forget(daemon);
        await daemon.end('SIGKILL');
        await until('both cables are pulled', () => !one.linkUp && !other.linkUp);
        await restart();
        await until('both are plugged', () => one.linkUp && other.linkUp);
        expect(await exchange(cards, 2)).toBe(1);
      },
    );
  });
});
