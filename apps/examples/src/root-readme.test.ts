import { readFileSync, writeFileSync } from 'node:fs';
import { TemporaryDirectory } from '@virtlab/linux-guest/testing';
import { expect, it } from 'vitest';
import { describeWithGuest } from './testing/describe-with-guest.ts';
import { blockOf, runReadmeCommands, sectionOf } from './testing/readme-commands.ts';

const README = readFileSync(new URL('../../../README.md', import.meta.url), 'utf8');
const SECTION = sectionOf(README, 'Attach your own device to QEMU');

describeWithGuest('README of the project: attach your own device to QEMU', () => {
  it('the file, wherever it is saved, and the commands do what it says, for a guest of two processors', async () => {
    using folder = new TemporaryDirectory();
    writeFileSync(folder.file('my-disk.ts'), blockOf(SECTION, 'ts'));
    const run = await runReadmeCommands(blockOf(SECTION, 'sh'), folder, async (guest) => {
      const [, command] = /There `(dd [^`]*)`/.exec(SECTION)!;
      const dump = await guest.output(`${command} 2>/dev/null`);
      expect(dump).toContain(`0000000${' 0707'.repeat(8)}\n*\n0001000\n`); // \*: as before, up to 512 bytes
      expect(await guest.output('blockdev --getsize64 /dev/vda')).toBe(`${2048 * 512}\n`);
      expect(await guest.output('ls /sys/block/vda/mq')).toBe('0\n1\n'); // a queue for each processor
    });
    expect(run.said).toContain('vhost-user-device listens at');
    expect(run.exitCode).toBe(143); // the daemon's, which was ended in order
  });
});
