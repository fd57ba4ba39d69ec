import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type InProcessXenstore, createXenstore } from '../create-xenstore.ts';
import { type XenstoreListener, listenXenstore } from './listen.ts';

/** Programs of the Xen project, run unchanged against our socket. Missing ones are skipped, or fail where required. */
const isRequired = process.env['VIRTLAB_REQUIRE_PEERS'] === '1';
const TEST_XENSTORE = '/usr/lib/xen-4.17/bin/test-xenstore';
const hasTools = (process.env['PATH'] ?? '')
  .split(delimiter)
  .some((dir) => existsSync(join(dir, 'xenstore-ls')));
const hasSelfTest = existsSync(TEST_XENSTORE);

let directory: string;
let xenstore: InProcessXenstore;
let listener: XenstoreListener;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'virtlab-xenstore-'));
  xenstore = createXenstore({ schedule: (turn) => void setImmediate(turn) });
  listener = await listenXenstore({ path: join(directory, 'socket'), server: xenstore.server });
});

afterAll(async () => {
  await listener.close();
  xenstore.assertQuiescent();
  xenstore.close();
  rmSync(directory, { recursive: true });
});

interface Result {
  readonly status: number;
  readonly output: string;
}

const environment = (): NodeJS.ProcessEnv => ({ ...process.env, XENSTORED_PATH: listener.path });

function run(program: string, ...parameters: readonly string[]): Promise<Result> {
  return new Promise((resolve) => {
    execFile(program, parameters, { env: environment(), timeout: 15_000 }, (error, stdout, stderr) => {
      if (error !== null && typeof error.code !== 'number') resolve({ status: -1, output: error.message });
      else resolve({ status: error === null ? 0 : Number(error.code), output: stdout + stderr });
    });
  });
}

/** Resolves once the process has printed `lineCount` lines. */
function lines(child: ChildProcess, lineCount: number): Promise<string[]> {
  return new Promise((resolve, reject) => {
    let text = '';
    child.stdout!.on('data', (chunk: Buffer) => {
      text += chunk.toString();
      const found = text.split('\n').slice(0, -1);
      if (found.length >= lineCount) resolve(found);
    });
    child.once('error', reject);
    child.once('exit', () => resolve(text.split('\n').slice(0, -1)));
  });
}

function requirePeer(isThere: boolean, package_: string): boolean {
  if (!isThere && !isRequired) console.warn(`skipped: needs the Debian package ${package_}`);
  return !isThere && !isRequired;
}

describe.skipIf(requirePeer(hasTools, 'xenstore-utils'))('xenstore-utils', () => {
  it('xenstore-write, -read, -list, -exists, -ls, -rm do what they say', async () => {
    expect(await run('xenstore-write', '/cli/a', 'hello', '/cli/b', 'world')).toEqual({
      status: 0,
      output: '',
    });
    expect(await run('xenstore-read', '/cli/a', '/cli/b')).toEqual({ status: 0, output: 'hello\nworld\n' });
    expect(await run('xenstore-list', '/cli')).toEqual({ status: 0, output: 'a\nb\n' });
    expect((await run('xenstore-exists', '/cli/a')).status).toBe(0);
    expect((await run('xenstore-exists', '/cli/c')).status).toBe(1);
    expect(await run('xenstore-ls', '-f', '/cli')).toEqual({
      status: 0,
      output: '/cli/a = "hello"\n/cli/b = "world"\n',
    });
    expect((await run('xenstore-rm', '/cli')).status).toBe(0);
    expect((await run('xenstore-read', '/cli/a')).status).not.toBe(0);
  });

  it('xenstore-chmod sets permissions, recursively too; xenstore-ls -p shows them', async () => {
    await run('xenstore-write', '/mod/a/b', '1');
    expect((await run('xenstore-chmod', '-r', '/mod', 'n5', 'r6')).status).toBe(0);
    expect((await run('xenstore-ls', '-fp', '/mod')).output).toBe(
      '/mod/a = ""   (n5,r6)\n/mod/a/b = "1"   (n5,r6)\n',
    );
    await run('xenstore-rm', '/mod');
  });

  it('xenstore-ls prints a tree with binary values escaped', async () => {
    expect((await run('xenstore-write', '/esc/x', 'a\\tb\\x01')).status).toBe(0);
    expect((await run('xenstore-ls', '/esc')).output).toBe('x = "a\\tb\\001"\n');
    await run('xenstore-rm', '/esc');
  });

  it('xenstore-watch hears changes', async () => {
    const watching = spawn('xenstore-watch', ['-n', '3', '/watched'], { env: environment() });
    const all = lines(watching, 3);
    await lines(watching, 1);
    await run('xenstore-write', '/watched/x', '1');
    await run('xenstore-rm', '/watched');
    expect(await all).toEqual(['/watched', '/watched/x', '/watched']);
  });

  it('a directory larger than a reply is listed through DIRECTORY_PART', async () => {
    const names = Array.from({ length: 600 }, (_, i) => `entry-${i}`);
    await run('xenstore-write', ...names.flatMap((name) => [`/many/${name}`, '']));
    expect((await run('xenstore-list', '/many')).output.trimEnd().split('\n')).toEqual(names);
    await run('xenstore-rm', '/many');
  });
});

describe.skipIf(requirePeer(hasSelfTest, 'xen-utils-4.17'))('test-xenstore', () => {
  it('passes all of its tests, repeatedly', async () => {
    const { status, output } = await run(TEST_XENSTORE, '-i', '20');
    expect(output).toContain('ta err');
    expect(status).toBe(0);
  });
});
