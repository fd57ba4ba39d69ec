import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { DemoResult } from '@virtlab/demo';
import { linuxFfi } from '@virtlab/linux';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';

const MAIN = fileURLToPath(new URL('./main.ts', import.meta.url));
const REQUIRE_PEERS = process.env['VIRTLAB_REQUIRE_PEERS'] === '1';
const ffi = linuxFfi();
if (!ffi.available && REQUIRE_PEERS) throw new Error(ffi.reason);

interface Run {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Marks the processes of this file's runs: other tests have domains too. */
const MARK = `VIRTLAB_TEST_RUN=${process.pid}-${Date.now()}`;

function start(args: readonly string[], env: Readonly<Record<string, string>> = {}): ChildProcess {
  const [name, value] = MARK.split('=');
  return spawn(process.execPath, ['--conditions=@virtlab/source', MAIN, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, [name!]: value, ...env },
  });
}

async function finish(child: ChildProcess): Promise<Run> {
  const text = { stdout: '', stderr: '' };
  child.stdout!.setEncoding('utf8').on('data', (chunk: string) => (text.stdout += chunk));
  child.stderr!.setEncoding('utf8').on('data', (chunk: string) => (text.stderr += chunk));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, ...text };
}

const virtlab = (...args: string[]): Promise<Run> => finish(start(args));

/** Foreign programs that open what the demo leaves, and the Debian packages they come from. */
const PEERS = { mdir: 'mtools', 'fsck.fat': 'dosfstools', tshark: 'tshark' } as const;

/** A title that says what is missing, and whether to skip; fails where peers are required. */
function needs(
  command: keyof typeof PEERS,
  title: string,
): { readonly title: string; readonly missing: boolean } {
  const missing = spawnSync(command, ['--version']).error !== undefined;
  const reason = `${command} is missing: install Debian's ${PEERS[command]}`;
  if (missing && REQUIRE_PEERS) throw new Error(reason);
  return { title: missing ? `${title} (${reason})` : title, missing };
}

function runPeer(command: keyof typeof PEERS, ...args: string[]): string {
  const { stdout, stderr, status } = spawnSync(command, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} exited with ${status}: ${stdout}${stderr}`);
  return stdout;
}

const MDIR = needs('mdir', 'mdir lists the files on the image that it leaves');
const FSCK = needs('fsck.fat', 'fsck.fat finds nothing wrong with that image');
const TSHARK = needs('tshark', 'tshark reads ARP, ICMP and UDP in the capture');

/** Processes of our runs that run a domain. */
function domainProcesses(): string[] {
  const isOurs = (pid: string): boolean => {
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
      return (
        command.includes('/domain/src/node/main.ts') &&
        readFileSync(`/proc/${pid}/environ`, 'utf8').includes(MARK)
      );
    } catch {
      return false; // it ended meanwhile
    }
  };
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name) && isOurs(name));
}

describe.skipIf(!ffi.available)('virtlab demo', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'virtlab-test-'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it('does its work over both transports', { timeout: 120_000 }, async () => {
    const files = ['--keep-image', join(folder, 'own.img'), '--pcap', join(folder, 'frames.pcap')];
    const { code, stdout, stderr } = await virtlab('demo', '--seconds', '0.1', '--json', ...files);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const result = JSON.parse(stdout) as DemoResult;
    expect(result.transports.map((each) => each.transport)).toEqual(['pci', 'xenbus']);
    expect(result.warnings).toEqual([]);
    for (const { block, net, filesystem } of result.transports) {
      expect(filesystem).toMatchObject({ files: 8 });
      expect(block.filter(({ operations }) => operations > 0)).toHaveLength(6);
      expect(block.some(({ kind, verified }) => kind === 'read' && verified > 0)).toBe(true);
      expect(net.map(({ between }) => between)).toEqual(['domU1 to dom0', 'domU1 to domU2']);
    }
    expect(domainProcesses()).toEqual([]);
  });

  it.skipIf(MDIR.missing)(MDIR.title, () => {
    const names = runPeer('mdir', '-i', join(folder, 'own.img'), '-b', '::/DATA').trim().split('\n');
    expect(names).toEqual(Array.from({ length: 8 }, (_value, index) => `::/DATA/FILE${index}.BIN`));
  });

  it.skipIf(FSCK.missing)(FSCK.title, () => {
    expect(runPeer('fsck.fat', '-n', join(folder, 'own.img'))).toContain('10 files');
  });

  it.skipIf(TSHARK.missing)(TSHARK.title, { timeout: 60_000 }, () => {
    const protocols = runPeer(
      'tshark',
      '-r',
      join(folder, 'frames.pcap'),
      '-T',
      'fields',
      '-e',
      'frame.protocols',
      '-c',
      '2000',
    );
    for (const name of ['arp', 'icmp', 'udp']) expect(protocols).toContain(`:${name}`);
  });

  it('reads an existing image as it is and leaves it as it was', { timeout: 60_000 }, async () => {
    const image = join(folder, 'existing.img');
    const content = Buffer.alloc(3 << 20, 'virtlab ');
    writeFileSync(image, content);
    const { code, stdout, stderr } = await virtlab(
      'demo',
      '--transport=xenbus',
      '--seconds',
      '0.1',
      '--domains',
      '1',
      '--disk',
      image,
      '--json',
    );
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const [result] = (JSON.parse(stdout) as DemoResult).transports;
    expect(result!.filesystem).toBeUndefined();
    expect(result!.diskSha256).toMatch(/^[0-9a-f]{64}$/);
    expect(readFileSync(image).equals(content)).toBe(true);
  });

  it(
    'shuts down in order on SIGINT: exit code 130, no process and no temporary file left',
    { timeout: 60_000 },
    async () => {
      const temporary = join(folder, 'tmp');
      mkdirSync(temporary);
      const child = start(['demo', '--seconds', '20'], { TMPDIR: temporary });
      const done = finish(child);
      await vi.waitUntil(() => domainProcesses().length === 3, { timeout: 30_000 });
      expect(readdirSync(temporary)).toHaveLength(1);
      child.kill('SIGINT');
      const { code, stderr } = await done;
      expect({ code, stderr }).toEqual({ code: 130, stderr: 'virtlab: shutting down\n' });
      expect(domainProcesses()).toEqual([]);
      expect(readdirSync(temporary)).toEqual([]);
    },
  );

  it('leaves no process behind when the launcher is killed', { timeout: 60_000 }, async () => {
    const child = start(['demo', '--seconds', '20', '--keep-image', join(folder, 'killed.img')]);
    const done = finish(child);
    await vi.waitUntil(() => domainProcesses().length === 3, { timeout: 30_000 });
    child.kill('SIGKILL');
    await done;
    await vi.waitFor(() => expect(domainProcesses()).toEqual([]), { timeout: 10_000 });
  });

  it(
    'says which domain died when one is killed, and ends with exit code 1',
    { timeout: 60_000 },
    async () => {
      const child = start(['demo', '--seconds', '20']);
      const done = finish(child);
      const [, , guest] = await vi.waitUntil(
        () => (domainProcesses().length === 3 ? domainProcesses() : undefined),
        { timeout: 30_000 },
      );
      process.kill(Number(guest), 'SIGKILL');
      const { code, stderr } = await done;
      expect(code).toBe(1);
      expect(stderr).toMatch(/^virtlab: Domain \d ended: /);
      expect(domainProcesses()).toEqual([]);
    },
  );
});

describe('virtlab', () => {
  it('--version and --help succeed', async () => {
    expect((await virtlab('--version')).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
    expect((await virtlab('demo', '--help')).stdout).toContain('--transport');
  });

  it.each([
    ['an unknown option', ['demo', '--frobnicate'], 'unknown option'],
    ['an unknown command', ['frobnicate'], 'unknown command'],
    ['an unknown transport', ['demo', '--transport=mmio'], 'Allowed choices are pci, xenbus, all'],
    ['a count that is none', ['demo', '--domains', 'two'], 'not a whole number'],
    ['too many domains', ['demo', '--domains', '99'], '--domains 99: from 1 to 16'],
    ['a missing image', ['demo', '--disk', '/nowhere/disk.img'], '--disk /nowhere/disk.img: ENOENT'],
    [
      'a capture that cannot be written',
      ['demo', '--pcap', '/nowhere/x.pcap'],
      '--pcap /nowhere/x.pcap: ENOENT',
    ],
    ['a name for no interface', ['demo', '--tap', 'a/b'], '--tap: "a/b" is no name for an interface'],
    ['an image that is a folder', ['demo', '--disk', '/'], '--disk /: it is not a file'],
  ])('%s: exit code 2 and a message that names it', async (_what, args, message) => {
    const { code, stderr, stdout } = await virtlab(...args);
    expect(stderr).toContain(message);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  });

  it('an image smaller than a sector: exit code 2', async () => {
    const path = join(mkdtempSync(join(tmpdir(), 'virtlab-test-')), 'tiny.img');
    writeFileSync(path, '');
    truncateSync(path, 100);
    const { code, stderr } = await virtlab('demo', '--disk', path);
    expect(stderr).toContain('100 bytes are less than a sector');
    expect(code).toBe(2);
    rmSync(join(path, '..'), { recursive: true });
    expect(existsSync(path)).toBe(false);
  });

  it('without the FFI: exit code 3 and what that means', async () => {
    const child = start(['demo'], { VIRTLAB_NO_FFI: '1' });
    const { code, stderr } = await finish(child);
    expect(stderr).toContain('Domains cannot be processes on this machine');
    expect(code).toBe(3);
  });
});
