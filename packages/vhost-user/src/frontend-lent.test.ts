import type { VhostUserProtocolFeature } from '@virtlab/abi/vhost-user';
import { closeFd, memfdCreate } from '@virtlab/linux';
import { describeWithFfi } from '@virtlab/linux/testing';
import { initializeDevice } from '@virtlab/virtio';
import { expect, it } from 'vitest';
import { U64 } from './payload-codec.ts';
import { type FrontendBench, until, withFrontend } from './testing/frontend-bench.ts';

const PAGE = 4096;
const CONTEXT = { queueCount: 256, hasXenMmap: false };
const PLACE = 0x10_0000_0000n;
const OWN = 0x1_0000_0000n;
const SLOTS: readonly VhostUserProtocolFeature[] = ['REPLY_ACK', 'CONFIGURE_MEM_SLOTS'];

async function start({ connect, aio, device }: FrontendBench) {
  const link = await connect();
  const session = await initializeDevice(link, { aio, wanted: 0n, queueSizeMax: 8, polling: false });
  device.takeNames();
  return { link, session };
}

function ownMemory(): number {
  return memfdCreate('caller', 4 * PAGE);
}

describeWithFfi('driver role: memory that the caller lends', () => {
  it('ADD_MEM_REG shows it to a live device, REM_MEM_REG takes it away, and its views read zeros', async () => {
    await withFrontend({ protocolFeatures: SLOTS }, async (bench) => {
      const { device } = bench;
      const { link, session } = await start(bench);
      const fd = ownMemory();
      expect(link.mappedMemoryCountMax).toBe(7);
      const lent = await link.mapMemory(fd, PAGE, 2 * PAGE);
      closeFd(fd);
      const region = {
        guestAddress: PLACE,
        userAddress: PLACE,
        size: BigInt(2 * PAGE),
        mmapOffset: BigInt(PAGE),
      };
      expect([device.takeNames(), device.payloads.get('ADD_MEM_REG')]).toEqual([['ADD_MEM_REG'], region]);
      expect([lent.addressLow, lent.addressHigh, lent.offset, lent.size]).toEqual([0, 0x10, 0, 2 * PAGE]);
      lent.memory.u8[0] = 1;
      lent[Symbol.dispose]();
      lent[Symbol.dispose]();
      expect(lent.memory.u8[0]).toBe(0);
      await until(() => device.names.length > 0);
      expect([device.takeNames(), device.payloads.get('REM_MEM_REG')]).toEqual([['REM_MEM_REG'], region]);
      await session.stop();
    });
  });

  it('without slots the rings pause for a new SET_MEM_TABLE, and go on where they were', async () => {
    await withFrontend({ protocolFeatures: ['REPLY_ACK'] }, async (bench) => {
      const { device } = bench;
      const { link, session } = await start(bench);
      const fd = ownMemory();
      const lent = await link.mapMemory(fd, 0, PAGE);
      closeFd(fd);
      const ring = ['SET_VRING_NUM', 'SET_VRING_BASE', 'SET_VRING_ADDR', 'SET_VRING_ERR', 'SET_VRING_CALL'];
      const change = [
        'GET_VRING_BASE',
        'SET_VRING_ENABLE',
        'SET_MEM_TABLE',
        ...ring,
        'SET_VRING_KICK',
        'SET_VRING_ENABLE',
      ];
      expect(device.takeNames()).toEqual(change);
      expect(device.payloads.get('SET_MEM_TABLE')).toMatchObject([
        { guestAddress: OWN },
        { guestAddress: PLACE },
      ]);
      lent[Symbol.dispose]();
      await until(() => device.names.length === change.length);
      expect(device.takeNames()).toEqual(change);
      expect(device.payloads.get('SET_MEM_TABLE')).toMatchObject([{ guestAddress: OWN }]);
      await session.stop();
    });
  });

  it('before a driver is there nothing is told; then it comes with the link’s own', async () => {
    await withFrontend({ protocolFeatures: SLOTS }, async (bench) => {
      const { device } = bench;
      const link = await bench.connect();
      device.takeNames();
      const fd = ownMemory();
      const gone = await link.mapMemory(fd, 0, PAGE);
      await link.mapMemory(fd, PAGE, PAGE);
      gone[Symbol.dispose]();
      closeFd(fd);
      expect(device.takeNames()).toEqual([]);
      const session = await initializeDevice(link, {
        aio: bench.aio,
        wanted: 0n,
        queueSizeMax: 8,
        polling: false,
      });
      expect(device.takeNames().filter((name) => name === 'ADD_MEM_REG')).toHaveLength(2);
      await session.stop();
    });
  });

  it('a device that refuses it is EIO, and the place is free again', async () => {
    await withFrontend({ protocolFeatures: SLOTS }, async (bench) => {
      const { link, session } = await start(bench);
      const fd = ownMemory();
      bench.device.scripts.set('ADD_MEM_REG', () => U64.encode(1n, CONTEXT));
      await expect(link.mapMemory(fd, 0, PAGE)).rejects.toMatchObject({ code: 'EIO' });
      bench.device.scripts.clear();
      const lent = await link.mapMemory(fd, 0, PAGE);
      expect(lent.addressHigh).toBe(0x10);
      closeFd(fd);
      await session.stop();
    });
  });

  it('is refused by name where it could shrink, is shorter, is no page, or has no slot', async () => {
    await withFrontend({ protocolFeatures: ['REPLY_ACK'] }, async (bench) => {
      const { link, session } = await start(bench);
      const open = memfdCreate('open', PAGE, { seal: false });
      await expect(link.mapMemory(open, 0, PAGE)).rejects.toThrow(/^EINVAL.*F_SEAL_SHRINK/);
      closeFd(open);
      await expect(link.mapMemory(open, 0, PAGE)).rejects.toMatchObject({ code: 'EINVAL' });
      const fd = ownMemory();
      await expect(link.mapMemory(fd, 0, 5 * PAGE)).rejects.toThrow(/^EINVAL.*beyond the end/);
      for (const [offset, size] of [
        [1, PAGE],
        [0, 100],
        [0, 0],
        [-PAGE, PAGE],
        [0, 2 ** 33],
      ] as const)
        await expect(link.mapMemory(fd, offset, size)).rejects.toThrow(RangeError);
      for (let count = 0; count < 7; count += 1) await link.mapMemory(fd, 0, PAGE);
      await expect(link.mapMemory(fd, 0, PAGE)).rejects.toMatchObject({ code: 'ENOSPC' });
      closeFd(fd);
      await session.stop();
    });
  });

  it('a device that is gone is ENODEV; giving back then disturbs nobody', async () => {
    await withFrontend({ protocolFeatures: SLOTS }, async (bench) => {
      const { link, session } = await start(bench);
      const fd = ownMemory();
      const lent = await link.mapMemory(fd, 0, PAGE);
      bench.device.stream.close();
      await until(() => session.broken !== undefined);
      await expect(link.mapMemory(fd, 0, PAGE)).rejects.toMatchObject({ code: 'ENODEV' });
      lent[Symbol.dispose]();
      closeFd(fd);
      await session.stop();
    });
  });
});
