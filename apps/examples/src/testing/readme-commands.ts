/** Commands of a README that end with QEMU, run as they stand there, in a directory of its own. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { guestImage } from '@virtlab/linux-guest';
import type { TemporaryDirectory } from '@virtlab/linux-guest/testing';
import { SerialCommands } from './serial-commands.ts';
import { virtlabCommand } from './virtlab.ts';

const CONTROL = 'control.sock';

/** Text of a section, from its heading to the next. */
export function sectionOf(readme: string, heading: string): string {
  const [, section] = new RegExp(`^## ${heading}\n([^]*?)^## `, 'm').exec(readme)!;
  return section!;
}

/** The first block of a language. */
export function blockOf(section: string, language: string): string {
  return new RegExp(`^\`\`\`${language}\n([^]*?)^\`\`\`$`, 'm').exec(section)![1]!;
}

/** The README's user has an image that starts by itself and may have processors; this one is a kernel and an archive. */
function ownGuest(): string {
  const { kernelPath, initramfsPath } = guestImage();
  const ports = `-serial file:console -serial unix:${CONTROL},server=on,wait=on`;
  return `-smp 2 -kernel '${kernelPath}' -initrd '${initramfsPath}' -append 'console=ttyS0 quiet' -display none ${ports}`;
}

export interface ReadmeRun {
  /** What all programs said. */
  readonly said: string;
  /** Of the last program in the background, which was ended in order when QEMU was. */
  readonly exitCode: number | null;
}

/** Runs them, uses the guest, turns it off, and ends the programs in the background. */
export async function runReadmeCommands(
  commands: string,
  folder: TemporaryDirectory,
  use: (guest: SerialCommands) => Promise<void>,
): Promise<ReadmeRun> {
  const script = commands.replaceAll('npx virtlab', virtlabCommand()).replace('guest.qcow2', ownGuest());
  const shell = spawn('bash', ['-c', `${script}\nkill $(jobs -p)\nwait $!`], {
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
    await use(guest);
    guest.powerOff();
    await ended;
  } finally {
    if (shell.exitCode === null) process.kill(-shell.pid!, 'SIGKILL');
  }
  return { said, exitCode: shell.exitCode };
}
