import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, readdirSync, readlinkSync, statSync } from 'node:fs';
import { createConnection } from 'node:net';
import { dirname, join } from 'node:path';
import type { Readable } from 'node:stream';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { XS_MKDIR, XS_READ } from '@virtlab/abi/xs-wire';
import type { RealXenstored, RealXenstoredOptions } from './contract.ts';
import { realXenstoredAvailability } from './availability.ts';
import { startRealXenstored } from './real-xenstored.ts';
import { describeDaemons } from './testing/describe-daemons.ts';
import { SocketClient } from './testing/socket-client.ts';

/** Files of a real Xen, which must stay as they are: absent, as a rule. */
const FOREIGN_PLACES = ['/var/run/xenstored', '/var/lib/xenstored', '/var/run/xen', '/proc/xen'];

function foreignPlaces(): readonly (readonly string[] | undefined)[] {
  return FOREIGN_PLACES.map((path) => (existsSync(path) ? readdirSync(path).toSorted() : undefined));
}

function directoryOf(daemon: RealXenstored): string {
  return dirname(dirname(daemon.socketPath));
}

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

function openedSince(before: Set<string>): readonly string[] {
  return [...openFiles().difference(before)];
}

function isAlive(pid: number): boolean {
  return existsSync(`/proc/${pid}`);
}

function parentOf(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'latin1');
  return Number(/^PPid:\s*(\d+)$/m.exec(status)![1]);
}

describeDaemons('a daemon without Xen', (options) => {
  it('serves on a socket of its own, which no other user reaches, as a child that did not fork', async () => {
    const before = foreignPlaces();
    const daemon = await startRealXenstored(options);
    expect(statSync(daemon.socketPath).isSocket()).toBe(true);
    expect(statSync(directoryOf(daemon)).mode & 0o777).toBe(0o700);
    expect(parentOf(daemon.pid)).toBe(process.pid);
    const tools = await SocketClient.connect(daemon.socketPath);
    expect(await tools.request(XS_READ, '/tool')).toBe('');
    tools.close();
    await daemon.close();
    expect(foreignPlaces()).toEqual(before);
  });

  it('runs beside others, each with its own store and its own domains', async () => {
    const daemons = await Promise.all([1, 2, 3].map(() => startRealXenstored(options)));
    const tools = await Promise.all(daemons.map(({ socketPath }) => SocketClient.connect(socketPath)));
    const domains = await Promise.all(daemons.map((daemon) => daemon.createDomain(5)));
    for (const [index, each] of tools.entries()) {
      expect(await each.request(XS_MKDIR, `/only-${index}`)).toBe('OK');
      expect(await each.introduce(domains[index]!)).toBe('OK');
    }
    expect(await tools[0]!.request(XS_READ, '/only-1')).toBe('ENOENT');
    for (const each of tools) each.close();
    await Promise.all(daemons.map((daemon) => daemon.close()));
  });

  it('leaves no process, directory or open file', async () => {
    const once_ = await startRealXenstored(options); // what Node.js opens at first use stays open
    await once_.close();
    const before = openFiles();
    const daemon = await startRealXenstored(options);
    const domain = await daemon.createDomain(5);
    const tools = await SocketClient.connect(daemon.socketPath);
    expect(await tools.introduce(domain)).toBe('OK');
    domain.listen(() => undefined);
    tools.close();
    await Promise.all([daemon.close(), daemon.close()]);
    expect(isAlive(daemon.pid)).toBe(false);
    expect(existsSync(directoryOf(daemon))).toBe(false);
    expect(openedSince(before)).toEqual([]);
    domain.kick();
    domain.close();
    daemon.destroyDomain(5);
    await expect(daemon.createDomain(6)).rejects.toThrow('closed');
  });

  it('keeps what it says in `messages`', async () => {
    const talkative: RealXenstoredOptions =
      options.kind === 'c'
        ? { ...options, arguments: ['--no-such-option'] }
        : { ...options, configuration: ['xenstored-log-level = info'] };
    const daemon = await startRealXenstored(talkative);
    await daemon.close();
    expect(daemon.messages).toMatch(/no-such-option|Xen Storage Daemon, version/);
  });

  it('reports a daemon that ends at once, with what it said, and leaves nothing', async () => {
    const before = openFiles();
    const failing: RealXenstoredOptions =
      options.kind === 'c'
        ? { ...options, arguments: ['surplus-argument'] }
        : { ...options, arguments: ['--config-test'] };
    await expect(startRealXenstored(failing)).rejects.toMatchObject({ code: 'exited' });
    expect(openedSince(before)).toEqual([]);
  });

  const orphanProgram = join(import.meta.dirname, 'testing', 'orphan.ts');
  const orphanFlags = ['--conditions=@virtlab/source'];
  const orphanArguments = options.program === undefined ? [options.kind] : [options.kind, options.program];

  /** Whether anything is left of an announced daemon after `kill` and its end. */
  async function survives(announcement: Readable, kill: () => void): Promise<boolean> {
    const [line] = (await once(announcement, 'data')) as [Buffer];
    const daemon = JSON.parse(line.toString()) as Pick<RealXenstored, 'socketPath'>;
    const connection = createConnection(daemon.socketPath);
    await once(connection, 'connect');
    const closed = new Promise((resolve) => connection.once('close', resolve));
    connection.on('error', () => undefined).resume();
    kill();
    await closed; // the daemon is gone when its end of the connection is
    return existsSync(dirname(dirname(daemon.socketPath)));
  }

  it('ends with a process that is killed, and removes its directory itself', async () => {
    const parent = spawn(process.execPath, [...orphanFlags, orphanProgram, ...orphanArguments], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    expect(await survives(parent.stdout, () => parent.kill('SIGKILL'))).toBe(false);
  });

  it('ends with a worker thread that started it', async () => {
    const worker = new Worker(orphanProgram, { argv: orphanArguments, execArgv: orphanFlags, stdout: true });
    expect(await survives(worker.stdout, () => void worker.terminate())).toBe(false);
  });
});

describe('startRealXenstored', () => {
  it('says which Debian package is missing', () => {
    for (const kind of ['c', 'oxenstored'] as const) {
      const availability = realXenstoredAvailability(kind);
      const said = availability.status === 'available' ? availability.version : availability.reason;
      expect(said).toMatch(/^\d|needs the Debian package|for Linux/);
    }
  });

  it.skipIf(realXenstoredAvailability('c').status === 'missing')(
    'reports a program that cannot be started, or that is no daemon',
    async () => {
      await expect(startRealXenstored({ kind: 'c', program: '/no/such/program' })).rejects.toThrow('ENOENT');
      await expect(startRealXenstored({ kind: 'c', program: '/bin/true' })).rejects.toMatchObject({
        code: 'exited',
      });
    },
  );
});
