import { expect, it } from 'vitest';
import { type NodeAioContext, createNodeAioContext } from '@virtlab/aio/node';
import { type NetDriver, createNetDriver } from '@virtlab/virtio-net';
import { connectVirtioPci } from '@virtlab/virtio-pci';
import { QemuMachine, slotBdf } from '../qtest/qemu-machine.ts';
import { words } from '../qtest/testing/command-line.ts';
import { describeWithQemu } from '../qtest/testing/describe-with-qemu.ts';
import { Inbox, frame, mac, macText, sendAll, text } from '../qtest/testing/frames.ts';
import { settle } from '../qtest/testing/shared-machine.ts';
import { DaemonFolder } from './testing/daemons.ts';

const SLOTS = [3, 4] as const;

describeWithQemu('virtlab vhost-user-net comes and goes', () => {
  const folder = new DaemonFolder();
  const socket = (slot: number): string => folder.file(`s${slot}`);
  const options = SLOTS.flatMap((slot) => ['--socket-path', socket(slot)]);
  const devices = (): string[] =>
    SLOTS.flatMap((slot) =>
      words(`
        -chardev socket,id=c${slot},path=${socket(slot)},reconnect=1
        -netdev vhost-user,id=n${slot},chardev=c${slot}
        -device virtio-net-pci,netdev=n${slot},mac=${macText(mac(slot))},addr=${slot},romfile=,vectors=0
      `),
    );

  const connect = async (machine: QemuMachine, aio: NodeAioContext, slot: number): Promise<NetDriver> => {
    const { access, interrupts, dma } = machine;
    const link = await connectVirtioPci({ access, bdf: slotBdf(slot), interrupts, dma, aio });
    return await createNetDriver(link, { aio });
  };

  it('QEMU may come first; a daemon that is killed and started again is a cable pulled and plugged', async () => {
    const aio = createNodeAioContext();
    const starting = folder.start('vhost-user-net', ...options);
    // Nobody listens yet: QEMU asks again after a second, and only then does anything else.
    const machine = new QemuMachine({ aio, devices });
    let daemon = await starting;
    machine.assignBars();
    const [one, other] = await Promise.all(SLOTS.map((slot) => connect(machine, aio, slot)));
    const inbox = new Inbox(other!);
    const exchange = async (mark: number): Promise<void> => {
      const sent = frame(other!.mac, one!.mac, 300, mark);
      await sendAll(one!, [sent]);
      expect(await inbox.take(1)).toEqual([text(sent)]);
    };
    await exchange(1);

    folder.forget(daemon);
    await daemon.end('SIGKILL');
    while (one!.linkUp || other!.linkUp) await settle();
    daemon = await folder.start('vhost-user-net', ...options);
    while (!one!.linkUp || !other!.linkUp) await settle();
    await exchange(2);

    for (const driver of [one!, other!]) await driver.close();
    await machine.close();
    aio[Symbol.dispose]();
    const ends = await Promise.all(
      SLOTS.map((slot) =>
        daemon.heard((each) => each.event === 'disconnected' && each['socket'] === socket(slot)),
      ),
    );
    expect(ends.map(({ reason }) => reason)).toEqual([undefined, undefined]);
  });
});
