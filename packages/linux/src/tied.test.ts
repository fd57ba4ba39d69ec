import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { describeWithPeer } from './testing/describe-with-peer.ts';
import { tied } from './tied.ts';

const SETPRIV = spawnSync('setpriv', ['--version']).error;
/** Starts what the words behind it say, tells its process id, and stays. */
const LAUNCHER = `
  import { spawn } from 'node:child_process';
  import { tied } from ${JSON.stringify(new URL('tied.ts', import.meta.url).href)};
  const child = spawn(...tied('sleep', ['60']), { stdio: 'ignore' });
  child.once('spawn', () => console.log(child.pid));
`;

async function ended(pid: number): Promise<void> {
  while (existsSync(`/proc/${pid}`)) await sleep(2);
}

describeWithPeer('tied', SETPRIV && "setpriv is missing: Debian's util-linux", () => {
  it('a program goes when the process that started it is killed', async () => {
    const launcher = spawn(process.execPath, ['--input-type=module', '--eval', LAUNCHER], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [line] = (await once(createInterface(launcher.stdout), 'line')) as [string];
    expect(existsSync(`/proc/${line}`)).toBe(true);
    launcher.kill('SIGKILL');
    await ended(Number(line));
  });

  it('a program has the process id of what was spawned, its arguments and its exit code', async () => {
    const child = spawn(...tied('sh', ['-c', 'echo $$ "$1"; exit 7', 'sh', 'a b']), {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const text: string[] = [];
    child.stdout.setEncoding('utf8').on('data', (part: string) => text.push(part));
    expect(await once(child, 'close')).toEqual([7, null]);
    expect(text.join('')).toBe(`${child.pid} a b\n`);
  });
});
