import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { ACPI_PCIHP_EJECT_PORT } from '@virtlab/abi/pc-chipset';
import { VHOST_F_LOG_ALL } from '@virtlab/abi/vhost-user';
import { VIRTIO_BLK_SECTOR_SIZE } from '@virtlab/abi/virtio-blk';
import { VIRTIO_F_RING_PACKED, featureBit } from '@virtlab/abi/virtio';
import { type NodeAioContext, createNodeAioContext } from '@virtlab/aio/node';
import { RING_FEATURES } from '@virtlab/virtio';
import { type BlkDriver, createBlkDriver } from '@virtlab/virtio-blk';
import { type VirtioPciLink, connectVirtioPci } from '@virtlab/virtio-pci';
import { QemuError } from '../qtest/qemu-error.ts';
import { QemuMachine, type QemuMachineOptions, slotBdf } from '../qtest/qemu-machine.ts';
import { words } from '../qtest/testing/command-line.ts';
import { describeWithQemu } from '../qtest/testing/describe-with-qemu.ts';
import { until } from '../qtest/testing/until.ts';
import { DaemonFolder } from './testing/daemons.ts';

const SLOT = 6;
const CAPACITY = 2048;
const SECTOR = VIRTIO_BLK_SECTOR_SIZE;
const BLOCK = 8 * SECTOR;
const BLOCK_COUNT = (CAPACITY * SECTOR) / BLOCK;

const LOG_ALL = 1n << BigInt(VHOST_F_LOG_ALL);
const PACKED_RINGS = RING_FEATURES | featureBit(VIRTIO_F_RING_PACKED);

type Options = Omit<QemuMachineOptions, 'aio'>;

/**
 * Removes a socket whose card has gone. QEMU says that a card has gone before it lets go of what the card had, which it does
 * once no thread of it can be looking at the card any more (RCU); nothing tells when that is.
 */
function isRemoved(machine: QemuMachine, id: string): boolean {
  try {
    machine.execute('chardev-remove', { id });
    return true;
  } catch (error) {
    if (error instanceof QemuError && error.message.includes('busy')) return false;
    throw error;
  }
}

describeWithQemu('virtlab vhost-user-blk comes and goes', () => {
  const folder = new DaemonFolder();
  let count = 0;

  /** A fresh image, and the arguments of a daemon that serves it. */
  const prepare = (): {
    readonly socket: string;
    readonly image: string;
    readonly args: readonly string[];
  } => {
    count += 1;
    const [socket, image] = [folder.file(`s${count}`), folder.file(`disk${count}`)];
    writeFileSync(image, new Uint8Array(CAPACITY * SECTOR));
    const queues = ['--num-queues', '2', '--threads', '2'];
    return { socket, image, args: ['--socket-path', socket, '--blk-file', image, ...queues] };
  };

  const withMachine = async (
    options: Options,
    body: (machine: QemuMachine, aio: NodeAioContext) => Promise<void>,
  ): Promise<void> => {
    const aio = createNodeAioContext();
    const machine = new QemuMachine({ ...options, aio });
    let held: readonly string[] = [];
    try {
      machine.assignBars();
      await body(machine, aio);
    } finally {
      held = await machine.close();
      aio[Symbol.dispose]();
    }
    expect([held, aio.leaks()]).toEqual([[], []]);
  };

  const connect = async (machine: QemuMachine, aio: NodeAioContext): Promise<VirtioPciLink> => {
    const { access, interrupts, dma } = machine;
    return await connectVirtioPci({ access, bdf: slotBdf(SLOT), interrupts, dma, aio });
  };

  const device = (socket: string, more = ''): string[] =>
    words(`
      -chardev socket,id=c0,path=${socket}${more}
      -device vhost-user-blk-pci,chardev=c0,addr=${SLOT},num-queues=2,packed=on
    `);

  /** Each block is written once, with its number; 32 at a time, over all queues. */
  const writeAll = async (driver: BlkDriver, onBlock: (index: number) => void): Promise<void> => {
    let next = 0;
    const work = async (): Promise<void> => {
      while (next < BLOCK_COUNT) {
        const index = next;
        next += 1;
        await driver.write((index * BLOCK) / SECTOR, new Uint8Array(BLOCK).fill(index + 1));
        onBlock(index);
      }
    };
    await Promise.all(Array.from({ length: 32 }, work));
  };

  it.each(['split', 'packed'])(
    'a daemon that is killed and started again: no request is lost (reconnect=1, %s rings)',
    async (rings) => {
      const { socket, image, args } = prepare();
      let daemon = await folder.start('vhost-user-blk', ...args);
      await withMachine({ devices: () => device(socket, ',reconnect=1') }, async (machine, aio) => {
        const link = await connect(machine, aio);
        const ringFeatures = rings === 'packed' ? { ringFeatures: PACKED_RINGS } : {};
        const driver = await createBlkDriver(link, { aio, queueCount: 2, ...ringFeatures });
        let restart: Promise<void> | undefined;
        await writeAll(driver, (index) => {
          if (index < BLOCK_COUNT / 4) return;
          restart ??= (async () => {
            folder.forget(daemon);
            expect(await daemon.end('SIGKILL')).toBe('SIGKILL');
            daemon = await folder.start('vhost-user-blk', ...args);
          })();
        });
        await restart;
        await driver.flush();
        const target = new Uint8Array(BLOCK);
        await driver.read(0, target);
        expect(target.every((byte) => byte === 1)).toBe(true);
        await driver.close();
        await link[Symbol.asyncDispose]();
      });
      const contents = readFileSync(image);
      for (let index = 0; index < BLOCK_COUNT; index += 1) {
        const block = contents.subarray(index * BLOCK, (index + 1) * BLOCK);
        expect(
          block.every((byte) => byte === ((index + 1) & 0xff)),
          `block ${index}`,
        ).toBe(true);
      }
    },
  );

  it('flags-mismatch: a daemon that comes back with less to offer says so; no request is lost until the right one is there', async () => {
    const { socket, args } = prepare();
    const all = [...args, '--discard'];
    let daemon = await folder.start('vhost-user-blk', ...all);
    await withMachine({ devices: () => device(socket, ',reconnect=1') }, async (machine, aio) => {
      const link = await connect(machine, aio);
      const driver = await createBlkDriver(link, { aio });
      await driver.discard(0, 8);
      const restart = async (options: readonly string[]): Promise<void> => {
        folder.forget(daemon);
        await daemon.end('SIGKILL');
        daemon = await folder.start('vhost-user-blk', ...options);
      };
      await restart(args);
      const writing = driver.write(0, new Uint8Array(BLOCK).fill(3));
      daemon.mayWarn = true;
      const { message } = await daemon.heard(({ event }) => event === 'warning');
      expect(message).toMatch(/features are refused/);
      await restart(all);
      await writing;
      const target = new Uint8Array(BLOCK);
      await driver.read(0, target);
      expect(target.every((byte) => byte === 3)).toBe(true);
      await driver.close();
      await link[Symbol.asyncDispose]();
    });
  });

  it('a card that is plugged in and unplugged, twice; the daemon serves the next', async () => {
    const { socket, args } = prepare();
    const daemon = await folder.start('vhost-user-blk', ...args);
    await withMachine({ machine: 'pc', devices: () => [] }, async (machine, aio) => {
      for (let round = 1; round <= 2; round += 1) {
        const backend = {
          type: 'socket',
          data: { addr: { type: 'unix', data: { path: socket } }, server: false },
        };
        machine.execute('chardev-add', { id: `c${round}`, backend });
        const add = { driver: 'vhost-user-blk-pci', id: 'plugged', chardev: `c${round}`, addr: `${SLOT}.0` };
        machine.execute('device_add', { ...add, 'num-queues': 2 });
        machine.assignBars();
        const link = await connect(machine, aio);
        const driver = await createBlkDriver(link, { aio });
        await driver.write(0, new Uint8Array(BLOCK).fill(round));
        machine.execute('device_del', { id: 'plugged' });
        machine.access.portWrite(ACPI_PCIHP_EJECT_PORT, 4, 1 << SLOT);
        machine.qtest.settle();
        await until('the card has gone', () => {
          machine.pollEvents();
          return driver.failure !== undefined;
        });
        await driver.close();
        await link[Symbol.asyncDispose]();
        await until('the socket is free', () => isRemoved(machine, `c${round}`));
        const isEnd = ({ event }: { readonly event: string }): boolean => event === 'disconnected';
        await until('the daemon knows', () => daemon.reports.filter(isEnd).length >= round);
        const end = daemon.reports.findLast(isEnd)!;
        expect(end).toMatchObject({ socket, requests: expect.any(Number) });
        expect(end['requests']).toBeGreaterThan(0);
      }
    });
  });

  it('a migration: writes are logged while requests go on, and QEMU finds all it needs', async () => {
    const { socket, args } = prepare();
    const daemon = await folder.start('vhost-user-blk', ...args);
    await withMachine({ devices: () => device(socket) }, async (machine, aio) => {
      const link = await connect(machine, aio);
      const driver = await createBlkDriver(link, { aio, queueCount: 2 });
      const status = (): string =>
        (machine.execute('query-migrate') as { readonly status?: string }).status ?? 'none';
      machine.execute('migrate', { uri: 'exec:cat >/dev/null' });
      const stop = new AbortController();
      const reading = (async () => {
        for (let index = 0; !stop.signal.aborted; index += 1)
          await driver.read((index % BLOCK_COUNT) * 8, new Uint8Array(BLOCK));
      })();
      // In the end the machine is stopped, its rings too, until it goes on.
      await until('the migration ends', () => !['none', 'setup', 'active', 'device'].includes(status()));
      expect(status()).toBe('completed');
      machine.execute('cont');
      stop.abort();
      await reading;
      await driver.write(0, new Uint8Array(BLOCK).fill(5));
      await driver.close();
      await link[Symbol.asyncDispose]();
    });
    const features = daemon.reports
      .filter(({ event }) => event === 'features')
      .map(({ features: bits }) => BigInt(String(bits)));
    expect(
      features.some((bits) => (bits & LOG_ALL) !== 0n),
      'VHOST_F_LOG_ALL was set',
    ).toBe(true);
  });

  it('§5.2.5 an image that grew, and SIGHUP: the driver hears of it over the back channel', async () => {
    const { socket, image, args } = prepare();
    const daemon = await folder.start('vhost-user-blk', ...args);
    await withMachine({ devices: () => device(socket) }, async (machine, aio) => {
      const link = await connect(machine, aio);
      const driver = await createBlkDriver(link, { aio });
      expect(driver.capacitySectors).toBe(CAPACITY);
      const seen: number[] = [];
      driver.onCapacityChange((sectors) => seen.push(sectors));
      truncateSync(image, 2 * CAPACITY * SECTOR);
      daemon.signal('SIGHUP');
      await until('the driver hears', () => seen.length > 0);
      expect(seen).toEqual([2 * CAPACITY]);
      await driver.write(2 * CAPACITY - 8, new Uint8Array(BLOCK).fill(9));
      await driver.close();
      await link[Symbol.asyncDispose]();
    });
    expect(readFileSync(image).at(-1)).toBe(9);
  });

  it('§5.2.5 an image that grew while no driver was there: QEMU knows it from before, the driver hears all the same', async () => {
    const { socket, image, args } = prepare();
    const daemon = await folder.start('vhost-user-blk', ...args);
    await withMachine({ devices: () => device(socket) }, async (machine, aio) => {
      truncateSync(image, 2 * CAPACITY * SECTOR);
      daemon.signal('SIGHUP');
      const link = await connect(machine, aio);
      const driver = await createBlkDriver(link, { aio });
      await until('the driver hears', () => driver.capacitySectors !== CAPACITY);
      expect(driver.capacitySectors).toBe(2 * CAPACITY);
      await driver.close();
      await link[Symbol.asyncDispose]();
    });
  });

  it('reports what was negotiated, which queues run, and what went through them', async () => {
    const { socket, args } = prepare();
    const daemon = await folder.start('vhost-user-blk', ...args);
    await withMachine({ devices: () => device(socket) }, async (machine, aio) => {
      const link = await connect(machine, aio);
      const driver = await createBlkDriver(link, { aio, queueCount: 2 });
      for (let index = 0; index < 10; index += 1) await driver.read(index, new Uint8Array(SECTOR));
      await driver.close();
      await link[Symbol.asyncDispose]();
    });
    const end = await daemon.heard(({ event }) => event === 'disconnected');
    expect(end['requests']).toBeGreaterThanOrEqual(10);
    const { features, protocolFeatures } = await daemon.heard(({ event }) => event === 'features');
    expect(features).toMatch(/^0x[\da-f]+$/);
    expect(String(protocolFeatures).split(' ')).toEqual(
      expect.arrayContaining(['MQ', 'CONFIG', 'INFLIGHT_SHMFD']),
    );
    const queues = daemon.reports.filter(({ event }) => event === 'queue');
    const states = queues.map(({ queue, state }) => `${String(queue)} ${String(state)}`);
    expect(states).toEqual(expect.arrayContaining(['0 started', '1 started', '0 stopped', '1 stopped']));
  });
});
