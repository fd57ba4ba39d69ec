import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type RealXenstored, realXenstoredAvailability, startRealXenstored } from '@virtlab/xen-preload';
import { type XenstoreClient, connectXenstore } from '@virtlab/xenstore/node/client';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

/** `virtlab xs` and Debian's programs at Xen's own daemons: every byte of the output, and the exit code. */
const MAIN = fileURLToPath(new URL('../../cli/src/main.ts', import.meta.url));
const IS_REQUIRED = process.env['VIRTLAB_REQUIRE_PEERS'] === '1';
const SEED = Number(process.env['VIRTLAB_SEED'] ?? Date.now() % 2 ** 31);

const hasUtils = (process.env['PATH'] ?? '')
  .split(delimiter)
  .some((folder) => existsSync(join(folder, 'xenstore-ls')));
if (!hasUtils && IS_REQUIRED) throw new Error("xenstore-ls is missing: install Debian's xenstore-utils");

interface Run {
  readonly code: number;
  readonly stdout: string;
}

const path = fc
  .array(fc.string({ unit: fc.constantFrom(...Array.from('abXY01-_@')), minLength: 1, maxLength: 20 }), {
    minLength: 1,
    maxLength: 5,
  })
  .map((names) => `/tree/${names.join('/')}`);
const value = fc.oneof(
  fc.uint8Array({ maxLength: 100 }),
  fc.string({ maxLength: 90 }).map((text) => Buffer.from(text)),
);
const entry = fc.record({
  access: fc.constantFrom('n' as const, 'r' as const, 'w' as const, 'b' as const),
  domid: fc.constant(0), // the C daemon takes no owner that does not exist
});
const node = fc.record({ path, value, entries: fc.array(entry, { minLength: 1, maxLength: 3 }) });

describe.each(['c', 'oxenstored'] as const)('virtlab xs beside xenstore-utils, at the real %s', (kind) => {
  const available = realXenstoredAvailability(kind);
  const reason = available.status === 'missing' ? available.reason : "xenstore-utils: Debian's package";
  const isMissing = available.status === 'missing' || !hasUtils;
  if (isMissing && IS_REQUIRED) throw new Error(reason);

  describe.skipIf(isMissing)(isMissing ? `needs ${reason}` : `seed ${SEED}`, { timeout: 60_000 }, () => {
    let daemon: RealXenstored;
    let store: XenstoreClient;
    let paths: string[];
    beforeAll(async () => {
      daemon = await startRealXenstored({ kind });
      store = await connectXenstore(daemon.socketPath);
      const nodes = fc.sample(node, { numRuns: 40, seed: SEED });
      for (const each of nodes) {
        await store.write(each.path, each.value);
        await store.setPermissions(each.path, each.entries);
      }
      paths = [...new Set(nodes.map((each) => each.path))];
    }, 30_000);
    afterAll(async () => {
      store.close();
      await daemon.close();
    });

    function run(program: string, ...args: readonly string[]): Promise<Run> {
      const env = { ...process.env, XENSTORED_PATH: daemon.socketPath };
      return new Promise((resolve) => {
        execFile(program, args, { env, encoding: 'latin1' }, (error, stdout) => {
          resolve({ code: error === null ? 0 : Number(error.code), stdout });
        });
      });
    }
    const virtlab = (...args: readonly string[]): Promise<Run> =>
      run(process.execPath, '--conditions=@virtlab/source', MAIN, 'xs', ...args);

    async function expectSame(command: string, ...args: readonly string[]): Promise<Run> {
      const theirs = await run(`xenstore-${command}`, ...args);
      expect(await virtlab(command, ...args)).toEqual(theirs);
      return theirs;
    }

    it('ls, read, list and exists print the same', async () => {
      expect((await expectSame('ls')).stdout.length).toBeGreaterThan(500);
      await expectSame('ls', '-p');
      await expectSame('ls', '-fp');
      await expectSame('read', '-p', ...paths);
      await expectSame('list', '-p', '/', '/tree', ...paths);
      await expectSame('exists', ...paths);
      await expectSame('read', '/tool', '/missing');
      await expectSame('ls', '/missing');
      await expectSame('exists', '/missing');
    });

    it('write, mkdir, chmod and rm change what they say', async () => {
      expect(await virtlab('write', '/new/a', 'x\\x01', '/new/b', '2')).toEqual({ code: 0, stdout: '' });
      expect(await virtlab('mkdir', '/new/c/d')).toEqual({ code: 0, stdout: '' });
      expect(await virtlab('chmod', '-r', '/new', 'r0')).toEqual({ code: 0, stdout: '' });
      expect((await run('xenstore-ls', '-fp', '/new')).stdout).toBe(
        '/new/a = "x\\001"   (r0)\n/new/b = "2"   (r0)\n/new/c = ""   (r0)\n/new/c/d = ""   (r0)\n',
      );
      expect(await virtlab('rm', '-t', '/new/c/d')).toEqual({ code: 0, stdout: '' });
      expect((await run('xenstore-list', '/new')).stdout).toBe('a\nb\n');
      expect(await virtlab('rm', '/new')).toEqual({ code: 0, stdout: '' });
      expect((await run('xenstore-exists', '/new')).code).toBe(1);
    });

    it('top says that there are no statistics', async () => {
      expect(await virtlab('top', '--count', '1')).toEqual({ code: 1, stdout: '' });
    });

    it('control speaks to it', async () => {
      expect((await virtlab('control', 'quota')).code).toBe(0);
    });
  });
});
