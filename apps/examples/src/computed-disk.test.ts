import { createHash } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { VIRTIO_ID_BLOCK } from '@virtlab/abi/virtio';
import { createNodeAioContext } from '@virtlab/aio/node';
import { describeWithFfi } from '@virtlab/linux/testing';
import { type LinuxGuest, startLinuxGuest, vhostUserBlk } from '@virtlab/linux-guest';
import { TemporaryDirectory } from '@virtlab/linux-guest/testing';
import { connectVhostUser } from '@virtlab/vhost-user';
import { createBlkDriver } from '@virtlab/virtio-blk';
import { expect, it } from 'vitest';
import { CAPACITY_SECTORS } from './computed-disk.ts';
import { describeWithGuest } from './testing/describe-with-guest.ts';
import { ServingProcess } from './testing/virtlab.ts';

const MODULE = fileURLToPath(new URL('computed-disk.ts', import.meta.url));
const PROGRAM = fileURLToPath(new URL('serve-computed-disk.ts', import.meta.url));
/** Ended by SIGTERM, in order. */
const EXIT_TERMINATED = 143;

/** The sector's text, made another way. */
function table(sector: number): string {
  let text = '';
  for (let factor = 1; factor <= 32; factor += 1) {
    const [left, right] = [String(sector), String(sector * factor)];
    text += `${' '.repeat(5 - left.length)}${left}*${factor < 10 ? ' ' : ''}${factor}=${' '.repeat(6 - right.length)}${right}\n`;
  }
  return text;
}

async function expectTables(guest: LinuxGuest, device: string): Promise<void> {
  expect(await guest.output(`cat /sys/block/${device}/size`)).toBe(String(CAPACITY_SECTORS));
  expect(await guest.output(`cat /sys/block/${device}/serial`)).toBe('multiplication');
  for (const sector of [0, 7, CAPACITY_SECTORS - 1]) {
    const { output } = await guest.run(`dd if=/dev/${device} bs=512 skip=${sector} count=1 2>/dev/null`);
    expect(output).toBe(table(sector));
  }
  // All of it, in requests as large as Linux makes them.
  const whole = Array.from({ length: CAPACITY_SECTORS }, (_, sector) => table(sector)).join('');
  const checksum = createHash('sha256').update(whole).digest('hex');
  expect(await guest.output(`dd if=/dev/${device} bs=1M iflag=direct 2>/dev/null | sha256sum`)).toContain(
    checksum,
  );
  expect(await guest.output(`cat /sys/block/${device}/ro`)).toBe('1');
}

describeWithGuest('a disk whose contents are computed, in a Linux guest of QEMU', () => {
  it('is read byte by byte, served by the command and by a program of its own', async () => {
    using folder = new TemporaryDirectory();
    const paths = { command: folder.file('command.sock'), program: folder.file('program.sock') };
    await using command = await ServingProcess.virtlab(
      'vhost-user-device',
      '--socket-path',
      paths.command,
      MODULE,
    );
    await using program = await ServingProcess.start(PROGRAM, paths.program);
    const devices = Object.entries(paths).map(([id, socketPath]) => vhostUserBlk({ id, socketPath }));
    {
      await using guest = await startLinuxGuest({ devices, cpuCount: 2 });
      for (const device of ['vda', 'vdb']) await expectTables(guest, device);
      await guest.powerOff();
      expect(guest.messages).toBe('');
    }
    expect([await command.end(), await program.end()]).toEqual([EXIT_TERMINATED, 0]);
  });
});

describeWithFfi('a disk whose contents are computed', () => {
  it('is read from any byte on, and not written', async () => {
    using folder = new TemporaryDirectory();
    const path = folder.file('disk.sock');
    await using _serving = await ServingProcess.start(PROGRAM, path);
    const aio = createNodeAioContext();
    const link = await connectVhostUser({ path, aio, deviceType: VIRTIO_ID_BLOCK });
    const disk = await createBlkDriver(link, { aio });
    const bytes = new Uint8Array(3 * 512);
    await disk.read(41, bytes);
    expect(Buffer.from(bytes).toString()).toBe(table(41) + table(42) + table(43));
    await expect(disk.write(0, bytes)).rejects.toThrow();
    await disk.close();
    await link[Symbol.asyncDispose]();
    expect(aio.leaks()).toEqual([]);
    aio[Symbol.dispose]();
  });
});
