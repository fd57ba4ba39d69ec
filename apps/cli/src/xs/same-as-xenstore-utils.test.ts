import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connectXenstore, startXenstored } from '@virtlab/xenstore/node';
import type { XenstoreClient, XenstorePermission } from '@virtlab/xenstore';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type Run,
  commandLine,
  lines,
  needs,
  programAt,
  startProgram,
  startVirtlab,
  virtlabAt,
} from '../testing/virtlab.ts';

/** Debian's programs and ours, at the same tree: every byte of the output, and the exit code. */
const UTILS = needs('xenstore-ls', 'xenstore-utils');
const SCRIPT = needs('script', 'bsdutils');
const FACTOR = Number(process.env['VIRTLAB_CAMPAIGN'] ?? 1);
const SEED = Number(process.env['VIRTLAB_SEED'] ?? Date.now() % 2 ** 31);

interface Node {
  readonly path: readonly string[];
  readonly value: Uint8Array;
  readonly permissions: readonly XenstorePermission[];
}

const name = fc.string({
  unit: fc.constantFrom(...Array.from('abcXYZ019-_@')),
  minLength: 1,
  maxLength: 24,
});
const longName = fc.integer({ min: 60, max: 200 }).map((size) => 'long-name-'.repeat(20).slice(0, size));
const value = fc.oneof(
  fc.uint8Array({ maxLength: 120 }),
  fc.string({ maxLength: 90 }).map((text) => Buffer.from(text)),
  fc.constantFrom(new Uint8Array(), Uint8Array.of(0), Uint8Array.of(9, 10, 13, 92, 127, 128, 255)),
);
const permission = fc.record({
  access: fc.constantFrom('n', 'r', 'w', 'b'),
  domid: fc.integer({ min: 0, max: 40 }),
}) as fc.Arbitrary<XenstorePermission>;
const node: fc.Arbitrary<Node> = fc.record({
  path: fc.array(fc.oneof({ weight: 9, arbitrary: name }, longName), { minLength: 1, maxLength: 6 }),
  value,
  permissions: fc.array(permission, { minLength: 1, maxLength: 4 }),
});
const tree = fc.array(node, { minLength: 20, maxLength: 40 });

describe.skipIf(UTILS.missing)(`beside xenstore-utils, seed ${SEED}${UTILS.note}`, () => {
  let folder: string;
  let socketPath: string;
  let store: XenstoreClient;
  let closeAll: () => Promise<void>;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'virtlab-xs-'));
    const daemon = await startXenstored({ socketPath: join(folder, 'socket') });
    ({ socketPath } = daemon);
    store = await connectXenstore(socketPath);
    closeAll = async () => {
      store.close();
      await daemon.close();
    };
  });
  afterAll(async () => {
    await closeAll();
    rmSync(folder, { recursive: true });
  });

  /** Both write the same bytes and end alike; our messages begin with theirs, behind the program's name. */
  async function expectSame(command: string, ...args: readonly string[]): Promise<Run> {
    const [theirs, ours] = await Promise.all([
      programAt(socketPath, `xenstore-${command}`, ...args),
      virtlabAt(socketPath, 'xs', command, ...args),
    ]);
    expect({ args, stdout: ours.stdout, code: ours.code }).toEqual({
      args,
      stdout: theirs.stdout,
      code: theirs.code,
    });
    return ours;
  }

  /** Makes the tree below `root`. Nodes that are too large or have a path that is too long are left out. */
  async function plant(root: string, nodes: readonly Node[]): Promise<string[]> {
    const paths = new Set<string>();
    await store.mkdir(root);
    for (const each of nodes) {
      const path = [root, ...each.path].join('/');
      await store.write(path, each.value);
      await store.setPermissions(path, each.permissions);
      paths.add(path);
    }
    return [...paths];
  }

  it('ls prints random trees the same, with all options', { timeout: 120_000 }, async () => {
    let run = 0;
    await fc.assert(
      fc.asyncProperty(tree, async (nodes) => {
        const root = `/ls${(run += 1)}`;
        await plant(root, nodes);
        await expectSame('ls', root);
        await expectSame('ls', '-p', root);
        await expectSame('ls', '-f', root);
        await expectSame('ls', '-fp', root, '/tool');
        await store.rm(root);
      }),
      { numRuns: 2 * FACTOR, seed: SEED, endOnFailure: true },
    );
    expect((await expectSame('ls')).stdout).toBe('tool = ""\n xenstored = ""\n');
    await expectSame('ls', '-s', '/tool');
    expect((await expectSame('ls', '/missing')).code).toBe(1);
    await expectSame('ls', '/tool', '/missing');
  });

  it.skipIf(SCRIPT.missing)(
    `ls cuts values to the width of a terminal the same${SCRIPT.note}`,
    { timeout: 60_000 },
    async () => {
      const [nodes] = fc.sample(tree, { numRuns: 1, seed: SEED });
      await plant('/terminal', nodes!);
      for (const [columns, options] of [
        [40, '-p'],
        [100, ''],
        [50, '-f'],
        [0, '-p'],
      ] as const) {
        const onTerminal = async (command: string): Promise<Run> => {
          const typed = `stty cols ${columns} -opost; ${command} ${options} /terminal`;
          return programAt(socketPath, 'script', '-qec', typed, '/dev/null');
        };
        const [theirs, ours] = await Promise.all([
          onTerminal('xenstore-ls'),
          onTerminal(`${commandLine()} xs ls`),
        ]);
        expect({ columns, seed: SEED, text: ours.stdout }).toEqual({
          columns,
          seed: SEED,
          text: theirs.stdout,
        });
        expect(theirs.stdout.length).toBeGreaterThan(100);
      }
      await store.rm('/terminal');
    },
  );

  it('read, list and exists print random nodes the same', { timeout: 60_000 }, async () => {
    const [nodes] = fc.sample(tree, { numRuns: 1, seed: SEED });
    const paths = await plant('/some', nodes!);
    expect((await expectSame('read', ...paths)).code).toBe(0);
    await expectSame('read', '-p', ...paths);
    await expectSame('read', '-R', paths[0]!);
    await expectSame('read', '-pR', ...paths);
    await expectSame('list', '/', '/some', ...paths);
    await expectSame('list', '-p', '/', '/some', ...paths);
    await expectSame('exists', ...paths);
    await store.rm('/some');
  });

  it('a missing node: the same output before it, exit code and message', { timeout: 60_000 }, async () => {
    const read = await expectSame('read', '/tool', '/missing', '/tool/xenstored');
    expect(read.stderr).toContain("couldn't read path /missing");
    expect((await expectSame('list', '/tool', '/missing')).stderr).toContain('could not list path /missing');
    expect((await expectSame('exists', '/tool', '/missing')).stderr).toBe('');
    expect((await expectSame('rm', '/missing/below')).stderr).toContain(
      'could not remove path /missing/below',
    );
    expect((await expectSame('write', '/tool', '', '/bad path', '')).stderr).toContain(
      'could not write path /bad path',
    );
    expect((await expectSame('chmod', '/missing', 'n0')).stderr).toContain(
      "Error occurred setting permissions on '/missing'",
    );
    expect((await expectSame('chmod', '/tool', 'x0')).stderr).toContain('Invalid permission specification');
    expect((await expectSame('watch', '/bad path')).stderr).toContain('Unable to add watch on /bad path');
  });

  it.each([['read'], ['write'], ['rm'], ['list'], ['exists'], ['chmod'], ['watch']])(
    '%s without arguments has the same exit code',
    async (command) => {
      expect((await expectSame(command)).code).toBe(1);
    },
  );

  it('write with a missing value writes nothing, with the same exit code', async () => {
    await expectSame('write', '/odd', '1', '/odder');
    expect(await store.exists('/odd')).toBe(false);
  });

  it('write takes random escapes the same', { timeout: 60_000 }, async () => {
    const piece = fc.oneof(
      fc.string({
        unit: fc.constantFrom(...Array.from('\\tnrx0123456789abfFgX+- \u00e9\u20ac')),
        maxLength: 12,
      }),
      fc.constantFrom(
        '\\x0x41',
        '\\x+4',
        '\\x-1',
        '\\x 41',
        '\\xg',
        '\\777',
        '\\08',
        '\\',
        '\\\\',
        '\\x',
        '\\q',
      ),
    );
    const texts = fc.sample(
      fc.array(piece, { maxLength: 5 }).map((parts) => parts.join('')),
      { numRuns: 300, seed: SEED },
    );
    const pairs = (root: string): string[] =>
      texts.flatMap((text, index) => [`${root}/${index}`, text.startsWith('-') ? ` ${text}` : text]);
    const theirs = await programAt(socketPath, 'xenstore-write', ...pairs('/w/theirs'));
    const ours = await virtlabAt(socketPath, 'xs', 'write', ...pairs('/w/ours'));
    expect([theirs.code, ours.code]).toEqual([0, 0]);
    for (const [index, text] of texts.entries()) {
      const [a, b] = [await store.read(`/w/theirs/${index}`), await store.read(`/w/ours/${index}`)];
      expect({ text, bytes: Buffer.from(b).toString('hex') }).toEqual({
        text,
        bytes: Buffer.from(a).toString('hex'),
      });
    }
    await virtlabAt(socketPath, 'xs', 'write', '-R', '/w/raw', 'a\\t\u20ac');
    expect(await store.readText('/w/raw')).toBe('a\\t\u20ac');
    await store.rm('/w');
  });

  it('rm -t and chmod -u -r leave the same tree', { timeout: 60_000 }, async () => {
    const change = async (run: (command: string, ...args: string[]) => Promise<Run>): Promise<string> => {
      for (const path of ['a/b/c', 'a/b/d/e', 'v/w/x', 'v/y']) await store.write(`/t/${path}`, '');
      await store.write('/t/v', 'kept');
      const runs = [
        await run('chmod', '-r', '/t/a/b', 'n3', 'r4', 'w5'),
        await run('chmod', '-u', '/t/v/w/x', 'b7'),
        await run('chmod', '-ur', '/t/v/w', 'r1', 'n2'),
        await run('rm', '-t', '/t/a/b/d/e', '/t/a/b/c'),
        await run('rm', '-t', '/t/v/w/x', '/t/v/y'),
        await run('rm', '/t/none'),
      ];
      expect(runs.map(({ code }) => code)).toEqual([0, 0, 0, 0, 0, 0]);
      const left = await programAt(socketPath, 'xenstore-ls', '-fp', '/t');
      await store.rm('/t');
      return left.stdout;
    };
    const theirs = await change((command, ...args) => programAt(socketPath, `xenstore-${command}`, ...args));
    const ours = await change((command, ...args) => virtlabAt(socketPath, 'xs', command, ...args));
    expect(ours).toBe(theirs);
    expect(theirs).toContain('kept');
  });

  it('watch prints the same paths and ends after -n of them', { timeout: 60_000 }, async () => {
    const keys = ['-n', '6', '/seen', '/seen/below', '@releaseDomain'];
    const env = { XENSTORED_PATH: socketPath };
    const watching = [startProgram('xenstore-watch', keys, env), startVirtlab(['xs', 'watch', ...keys], env)];
    const all = watching.map((child) => lines(child, 99));
    await Promise.all(watching.map((child) => lines(child, 3)));
    await store.write('/seen/below/x', '1');
    await store.rm('/seen');
    const [theirs, ours] = await Promise.all(all);
    expect(ours).toEqual(theirs);
    expect(theirs).toHaveLength(6);
  });
});
