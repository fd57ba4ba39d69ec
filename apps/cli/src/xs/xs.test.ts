import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createXenstore, type InProcessXenstore } from '@virtlab/xenstore';
import { type XenstoreListener, connectXenstore, listenXenstore } from '@virtlab/xenstore/node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Run, commandLine, finish, lines, shell, startVirtlab, virtlabAt } from '../testing/virtlab.ts';

let folder: string;
let xenstore: InProcessXenstore;
let listener: XenstoreListener;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'virtlab-xs-'));
  xenstore = createXenstore({ schedule: (turn) => void setImmediate(turn) });
  listener = await listenXenstore({ path: join(folder, 'socket'), server: xenstore.server });
  const store = await connectXenstore(listener.path);
  await store.write('/vm/text', 'grün "x"');
  await store.write('/vm/binary', Uint8Array.of(0, 255, 10));
  await store.write('/vm/empty/deep/leaf', '1');
  await store.setPermissions('/vm/text', [
    { domid: 3, access: 'n' },
    { domid: 5, access: 'r' },
  ]);
  store.close();
});
afterAll(async () => {
  await listener.close();
  xenstore.assertQuiescent();
  xenstore.close();
  rmSync(folder, { recursive: true });
});

const xs = (...args: readonly string[]): Promise<Run> => virtlabAt(listener.path, 'xs', ...args);
async function json(...args: readonly string[]): Promise<unknown> {
  const run = await xs(...args, '--json');
  expect(run).toMatchObject({ code: 0, stderr: '' });
  return JSON.parse(Buffer.from(run.stdout, 'latin1').toString('utf8'));
}

describe('virtlab xs', { timeout: 60_000 }, () => {
  it('tree draws names, values and permissions', async () => {
    const run = await xs('tree', '-p', '/vm');
    expect(Buffer.from(run.stdout, 'latin1').toString('utf8')).toBe(
      [
        '/vm',
        '├── text = "gr\\xc3\\xbcn "x""  (n3,r5)',
        '├── binary = "\\000\\xff\\n"  (n0)',
        '└── empty  (n0)',
        '    └── deep  (n0)',
        '        └── leaf = "1"  (n0)',
        '',
      ].join('\n'),
    );
    expect((await xs('tree', '--depth', '1', '/vm')).stdout).not.toContain('deep');
    expect((await xs('tree', '--depth', '0', '/vm')).stdout).toBe('/vm\n');
  });

  it('--json: values as text where they are UTF-8, in base64 elsewhere', async () => {
    expect(await json('read', '/vm/text', '/vm/binary')).toEqual([
      { path: '/vm/text', value: 'grün "x"' },
      { path: '/vm/binary', valueBase64: 'AP8K' },
    ]);
    expect(await json('ls', '-p', '/vm/empty')).toEqual([
      { path: '/vm/empty/deep', value: '', permissions: ['n0'] },
      { path: '/vm/empty/deep/leaf', value: '1', permissions: ['n0'] },
    ]);
    expect(await json('tree', '-d', '1', '/vm/empty')).toEqual({
      path: '/vm/empty',
      children: [{ name: 'deep', value: '', children: [] }],
    });
    expect(await json('list', '/vm/empty', '/vm/empty/deep')).toEqual([
      { path: '/vm/empty', children: ['deep'] },
      { path: '/vm/empty/deep', children: ['leaf'] },
    ]);
  });

  it('--json of what changes says what was changed', async () => {
    expect(await json('mkdir', '/j/a', '/j/b')).toEqual({ made: ['/j/a', '/j/b'] });
    expect(await json('write', '/j/a', '1', '/j/c', '2')).toEqual({ written: ['/j/a', '/j/c'] });
    expect(await json('chmod', '-r', '/j', 'n0', 'r7')).toEqual({ changed: ['/j', '/j/a', '/j/b', '/j/c'] });
    expect(await json('rm', '/j/a', '/j/c')).toEqual({ removed: ['/j/a', '/j/c'] });
    expect(await json('rm', '-t', '/j/b')).toEqual({ removed: ['/j/b', '/j'] });
    const run = await xs('exists', '--json', '/vm', '/j');
    expect(run.code).toBe(1);
    expect(JSON.parse(run.stdout)).toEqual([
      { path: '/vm', exists: true },
      { path: '/j', exists: false },
    ]);
  });

  it('watch --json prints a line per event with its watch', async () => {
    const child = startVirtlab(['xs', 'watch', '--json', '-n', '3', '--socket', listener.path, '/e', '/e/x']);
    const all = lines(child, 9);
    await lines(child, 2);
    await xs('mkdir', '/e/x/y');
    expect((await all).map((line) => JSON.parse(line))).toEqual([
      { path: '/e', watch: '/e' },
      { path: '/e/x', watch: '/e/x' },
      { path: '/e/x/y', watch: '/e' },
    ]);
    await xs('rm', '/e');
  });

  it('mkdir keeps the value of a node that is there', async () => {
    await xs('mkdir', '/vm/binary');
    expect((await xs('read', '-R', '/vm/binary')).stdout).toBe('\0\xff\n');
  });

  it('write of several values is all or nothing', async () => {
    const run = await xs('write', '/whole', '1', '/bad path', '2');
    expect(run).toMatchObject({ code: 1, stdout: '' });
    expect(run.stderr).toBe('virtlab: could not write path /bad path: EINVAL\n');
    expect((await xs('exists', '/whole')).code).toBe(1);
  });

  it('control sends commands, and shows what there is when one is not known: exit code 3', async () => {
    expect(await xs('control', 'check')).toMatchObject({ code: 0, stdout: 'OK\n' });
    expect((await xs('control', 'quota')).stdout).toMatch(/^Quota settings:\n/);
    expect((await xs('control', 'print', '--json')).stdout).toBe('OK\n'); // options behind the command are the daemon's
    const unknown = await xs('control', 'frobnicate');
    expect(unknown).toMatchObject({ code: 3, stdout: '' });
    expect(unknown.stderr).toMatch(/^virtlab: Command not supported\. Valid commands are:\ncheck/);
  });

  it('chmod refuses an entry whose domain is no number', async () => {
    const run = await xs('chmod', '/vm', 'rfoo');
    expect(run).toMatchObject({ code: 1, stderr: "virtlab: Invalid permission specification: 'rfoo'\n" });
  });

  it('a reader that has seen enough ends it without a word', async () => {
    const script = `for i in $(seq 300); do words="$words /pipe/$i ${'x'.repeat(300)}"; done
      ${commandLine()} xs write $words && ${commandLine()} xs ls -f /pipe | head -c 10; echo " \${PIPESTATUS[0]}"
      ${commandLine()} xs rm /pipe`;
    const { output } = await shell(script, folder, { XENSTORED_PATH: listener.path });
    expect(output).toMatch(/^\/pipe\/1 = {2}(141|0)\n$/);
  });

  it('a directory that exceeds a message is listed', async () => {
    const store = await connectXenstore(listener.path);
    const names = Array.from({ length: 900 }, (_value, index) => `name-${index}`);
    for (const name of names) void store.mkdir(`/large/${name}`);
    await store.mkdir('/large');
    expect((await xs('list', '/large')).stdout).toBe(`${names.join('\n')}\n`);
    expect((await xs('ls', '-f', '/large')).stdout).toBe(
      names.map((name) => `/large/${name} = ""\n`).join(''),
    );
    await store.rm('/large');
    store.close();
  });
});

describe('without a daemon', { timeout: 60_000 }, () => {
  it.each([
    [['read', '/a']],
    [['ls']],
    [['watch', '/a']],
    [['tree']],
    [['control', 'check']],
    [['top']],
    [['write', '/a', '1']],
  ])('%j: one line with the path, exit code 1', async (args) => {
    const path = join(folder, 'nobody');
    const run = await virtlabAt(path, 'xs', ...args);
    expect(run).toMatchObject({ code: 1, stdout: '' });
    expect(run.stderr).toBe(
      `virtlab: no xenstored answers at ${path} (ENOENT); start one with "virtlab xenstored" or name another socket\n`,
    );
  });

  it('watch ends when the daemon does, and says so', async () => {
    const other = createXenstore({ schedule: (turn) => void setImmediate(turn) });
    const path = join(folder, 'mortal');
    const mortal = await listenXenstore({ path, server: other.server });
    const child = startVirtlab(['xs', 'watch', '--socket', path, '/a']);
    const run = finish(child);
    await lines(child, 1);
    await mortal.close();
    other.server.close();
    expect(await run).toMatchObject({ code: 1, stdout: '/a\n' });
    expect((await run).stderr).toMatch(/^virtlab: .*clos/);
  });
});

describe('virtlab --help', () => {
  it.each([
    [[], ['demo', 'xenstored', 'xs']],
    [
      ['xs'],
      ['ls', 'read', 'write', 'rm', 'mkdir', 'list', 'chmod', 'watch', 'exists', 'tree', 'control', 'top'],
    ],
  ])('%j lists %j', async (args, names) => {
    const { stdout, code } = await finish(startVirtlab([...args, '--help']));
    expect(code).toBe(0);
    for (const name of names) expect(stdout).toMatch(new RegExp(`^ {2}${name} `, 'm'));
    for (const line of stdout.split('\n')) expect(line.length).toBeLessThanOrEqual(80);
  });

  it('a client command loads neither the demo nor the daemon', async () => {
    const { output, status } = await shell(
      `NODE_DEBUG=esm ${commandLine()} xs exists /vm 2>&1 >/dev/null | grep -oE '(demo|xenstore)/src/[a-z/-]+\\.ts' | sort -u`,
      folder,
      { XENSTORED_PATH: listener.path },
    );
    expect(status).toBe(0);
    expect(output).toContain('xenstore/src/client.ts');
    expect(output).not.toMatch(/demo\/src|server\.ts|store\.ts/);
  });
});
