import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readlinkSync } from 'node:fs';
import { type Socket, createServer } from 'node:net';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { startLinuxGuest } from './linux-guest.ts';
import { describeGuests } from './testing/describe-guests.ts';
import { rejection } from './testing/rejection.ts';
import { TemporaryDirectory } from './testing/temporary-directory.ts';

/** What each open file descriptor of this process is, such as `socket:[1234]`, which is not used twice. */
function openFiles(): Set<string> {
  const links = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return `${fd} ${readlinkSync(`/proc/self/fd/${fd}`)}`;
    } catch {
      return ''; // the one that reads the directory
    }
  });
  return new Set(links);
}

describeGuests('the process of a guest', () => {
  it('leaves no process and no open file, however it ends', async () => {
    await rejection(startLinuxGuest({ bootTimeoutMs: 1 })); // what Node.js opens at first use stays open
    const before = openFiles();
    const guests = await Promise.all([startLinuxGuest(), startLinuxGuest()]);
    const [closed, poweredOff] = guests;
    const running = rejection(closed.run('sleep 1234'));
    await Promise.all([closed.close(), poweredOff.powerOff()]);
    expect(await running).toMatchObject({ code: 'exited' });
    await closed.close();
    await expect(poweredOff.output('true')).rejects.toMatchObject({ code: 'exited' });
    expect(guests.filter(({ pid }) => existsSync(`/proc/${pid}`))).toEqual([]);
    expect([...openFiles().difference(before)]).toEqual([]);
  });

  it('ends with a process that is killed', async () => {
    using directory = new TemporaryDirectory();
    const socketPath = directory.file('witness.sock');
    const server = createServer().listen(socketPath);
    await once(server, 'listening');
    const connected = once(server, 'connection');
    const program = join(import.meta.dirname, 'testing', 'orphan.ts');
    const parent = spawn(process.execPath, ['--conditions=@virtlab/source', program, socketPath], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(parent.stdout, 'data');
    const [witness] = (await connected) as [Socket];
    const gone = once(witness.resume(), 'close');
    parent.kill('SIGKILL');
    expect(await gone).toEqual([false]); // without an error of the connection
    server.close();
  });
});
