import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { guestImage } from '@virtlab/linux-guest';
import { TemporaryDirectory } from '@virtlab/linux-guest/testing';
import { expect, it } from 'vitest';
import { describeWithGuest } from './testing/describe-with-guest.ts';
import { SerialCommands } from './testing/serial-commands.ts';
import { virtlabCommand } from './testing/virtlab.ts';

const README = readFileSync(new URL('../../../README.md', import.meta.url), 'utf8');
const MODULES = fileURLToPath(new URL('../../../node_modules', import.meta.url));
const [, SECTION] = /^## Attach your own device to QEMU\n([^]*?)^## /m.exec(README)!;
const CONTROL = 'control.sock';

function block(language: string): string {
  return new RegExp(`^\`\`\`${language}\n([^]*?)^\`\`\`$`, 'm').exec(SECTION!)![1]!;
}

/** The README's user has an image that starts by itself; this one is a kernel and an archive. */
function ownGuest(): string {
  const { kernelPath, initramfsPath } = guestImage();
  const ports = `-serial file:console -serial unix:${CONTROL},server=on,wait=on`;
  return `-kernel '${kernelPath}' -initrd '${initramfsPath}' -append 'console=ttyS0 quiet' -display none ${ports}`;
}

describeWithGuest('README of the project: attach your own device to QEMU', () => {
  it('the file and the commands do what it says', async () => {
    using folder = new TemporaryDirectory();
    symlinkSync(MODULES, folder.file('node_modules'));
    writeFileSync(folder.file('my-disk.ts'), block('ts'));
    const commands = block('sh').replace('npx virtlab', virtlabCommand()).replace('guest.qcow2', ownGuest());
    const shell = spawn('bash', ['-c', `${commands}\nkill $!\nwait $!`], {
      cwd: folder.path,
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    let said = '';
    for (const stream of [shell.stdout, shell.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => (said += text));
    }
    const ended = once(shell, 'close');
    try {
      using guest = await SerialCommands.open(folder.file(CONTROL), () => shell.exitCode === null);
      const [, command] = /There `(dd [^`]*)`/.exec(SECTION!)!;
      const dump = await guest.output(`${command} 2>/dev/null`);
      expect(dump).toContain(`0000000${' 0707'.repeat(8)}\n*\n0001000\n`); // \*: as before, up to 512 bytes
      expect(await guest.output('blockdev --getsize64 /dev/vda')).toBe(`${2048 * 512}\n`);
      guest.powerOff();
      await ended;
    } finally {
      if (shell.exitCode === null) process.kill(-shell.pid!, 'SIGKILL');
    }
    expect(said).toContain('vhost-user-device listens at');
    expect(shell.exitCode).toBe(143); // the daemon's, which was ended in order
  });
});
