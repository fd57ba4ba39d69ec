import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { XENSTORE_PROFILES } from '@virtlab/xenstore';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type DaemonUnderTest,
  type Run,
  lines,
  needs,
  programAt,
  startDaemon,
  startProgram,
} from '../testing/virtlab.ts';

/**
 * Programs of the Xen project against `virtlab xenstored`, unchanged. They bring the habits of libxenstore: request id
 * 0, header and payload in separate writes.
 */
const UTILS = needs('xenstore-ls', 'xenstore-utils');
const TEST_XENSTORE = '/usr/lib/xen-4.17/bin/test-xenstore';
const SELF_TEST = needs(TEST_XENSTORE, 'xen-utils-4.17');
const IS_THOROUGH =
  process.env['VIRTLAB_REQUIRE_PEERS'] === '1' || process.env['VIRTLAB_CAMPAIGN'] !== undefined;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'virtlab-peers-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe.each([...XENSTORE_PROFILES.keys()])(
  'virtlab xenstored --profile %s',
  { timeout: 60_000 },
  (profile) => {
    let daemon: DaemonUnderTest;
    const iterationCount = IS_THOROUGH || profile === 'c-4.17' ? 1000 : 100;
    beforeAll(async () => {
      daemon = await startDaemon(['--profile', profile, '--socket', join(folder, profile)]);
    });
    afterAll(async () => {
      expect(await daemon.end()).toMatchObject({ code: 143, stderr: 'virtlab: shutting down\n' });
    });

    const xenstore = (command: string, ...args: readonly string[]): Promise<Run> =>
      programAt(daemon.socketPath, `xenstore-${command}`, ...args);
    const done = (stdout: string): Partial<Run> => ({ code: 0, stdout, stderr: '' });

    it.skipIf(UTILS.missing)(`all commands of xenstore-utils work${UTILS.note}`, async () => {
      expect(await xenstore('write', '/cli/b', 'hello', '/cli/a', 'a\\tb\\x01\\xff')).toMatchObject(done(''));
      expect(await xenstore('read', '/cli/b', '/cli/a')).toMatchObject(done('hello\na\\tb\\001\\xff\n'));
      const order = profile === 'oxenstored' ? ['a', 'b'] : ['b', 'a'];
      expect(await xenstore('list', '/cli')).toMatchObject(done(`${order.join('\n')}\n`));
      expect(await xenstore('list', '-p', '/cli')).toMatchObject(
        done(order.map((name) => `/cli/${name}\n`).join('')),
      );
      expect((await xenstore('exists', '/cli/a')).code).toBe(0);
      expect((await xenstore('exists', '/cli/c')).code).toBe(1);
      expect(await xenstore('chmod', '-r', '/cli', 'n5', 'r6')).toMatchObject(done(''));
      expect(await xenstore('chmod', '-u', '/cli/b', 'b0')).toMatchObject(done(''));
      expect((await xenstore('ls', '-fp', '/cli')).stdout.split('\n').toSorted()).toEqual([
        '',
        '/cli/a = "a\\tb\\001\\xff"   (n5,r6)',
        '/cli/b = "hello"   (b0)',
      ]);
      expect(await xenstore('rm', '/cli/b')).toMatchObject(done(''));
      expect(await xenstore('rm', '-t', '/cli/a')).toMatchObject(done(''));
      expect((await xenstore('exists', '/cli')).code).toBe(1);
      expect((await xenstore('read', '/cli')).code).toBe(1);
    });

    it.skipIf(UTILS.missing)(`xenstore-watch hears of changes${UTILS.note}`, async () => {
      const watching = startProgram('xenstore-watch', ['-n', '3', '/watched'], {
        XENSTORED_PATH: daemon.socketPath,
      });
      const all = lines(watching, 9);
      await lines(watching, 1);
      await xenstore('write', '/watched/x', '1');
      await xenstore('rm', '/watched');
      expect(await all).toEqual(['/watched', '/watched/x', '/watched']);
    });

    it.skipIf(UTILS.missing)(`clients that come all at once are all served${UTILS.note}`, async () => {
      const indexes = Array.from({ length: 24 }, (_value, index) => index);
      const pairs = indexes.map((index) => [`/many/${index}`, `value-${index}`]);
      await Promise.all(pairs.map((pair) => xenstore('write', ...pair, ...pair)));
      const { stdout } = await xenstore('read', ...pairs.map(([path]) => path!));
      expect(stdout).toBe(pairs.map(([, value]) => `${value}\n`).join(''));
      await xenstore('rm', '/many');
    });

    it.skipIf(SELF_TEST.missing)(
      `test-xenstore passes its 12 tests, ${iterationCount} times${SELF_TEST.note}`,
      async () => {
        const { stdout, stderr, code } = await programAt(
          daemon.socketPath,
          TEST_XENSTORE,
          '-i',
          String(iterationCount),
        );
        expect({ stderr, code }).toEqual({ stderr: '', code: 0 });
        expect(stdout.match(/^[^\n]+: +\d+/gm) ?? [stdout]).toHaveLength(12);
      },
    );
  },
);
