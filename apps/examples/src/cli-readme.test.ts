import { readFileSync } from 'node:fs';
import { TemporaryDirectory } from '@virtlab/linux-guest/testing';
import { expect, it } from 'vitest';
import { describeWithGuest } from './testing/describe-with-guest.ts';
import { blockOf, runReadmeCommands, sectionOf } from './testing/readme-commands.ts';

const README = readFileSync(new URL('../../cli/README.md', import.meta.url), 'utf8');
const COMMANDS = blockOf(sectionOf(README, 'A disk and a network for QEMU'), 'sh');
const SIZE = 1 << 20;

describeWithGuest('README of the command: a disk and a network for QEMU', () => {
  it('the commands as they stand there bring up both cards, without KVM too', async () => {
    using folder = new TemporaryDirectory();
    folder.image('disk.raw', SIZE);
    expect(COMMANDS).toContain(' --tap vl0');
    const commands = COMMANDS.replace(' --tap vl0', ''); // which takes privileges
    const run = await runReadmeCommands(commands, folder, async (guest) => {
      expect(await guest.output('blockdev --getsize64 /dev/vda')).toBe(`${SIZE}\n`);
      expect(await guest.output('ls /sys/block/vda/mq')).toBe('0\n1\n');
      await guest.output('ip link set eth0 up');
      expect(await guest.output('cat /sys/class/net/eth0/carrier')).toBe('1\n');
    });
    expect(run.said).toContain('vhost-user-blk listens at');
    expect(run.said).toContain('vhost-user-net listens at');
    expect(run.exitCode).toBe(143);
  });
});
