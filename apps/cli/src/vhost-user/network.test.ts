import { execFileSync, spawn } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { linuxFfi } from '@virtlab/linux';
import { NetworkNamespace } from '@virtlab/linux/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { finish, lines, startVirtlab } from '../testing/virtlab.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'virtlab-vhost-user-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

let count = 0;
const fresh = (name: string): string => join(folder, `${(count += 1)}-${name}`);

describe('--pcap', { timeout: 60_000 }, () => {
  it('that fails is told once when it does, and in the end, by the exit code, too', async () => {
    const child = startVirtlab(['vhost-user-net', '-s', fresh('s'), '--pcap', '/dev/full']);
    const ended = finish(child);
    const warned = new Promise<void>((resolve) => {
      let text = '';
      child.stderr!.on('data', (chunk: string) => {
        text += chunk;
        if (text.includes('\n')) resolve();
      });
    });
    await Promise.all([lines(child, 1), warned]);
    child.kill('SIGTERM');
    const { code, stderr } = await ended;
    expect(code).toBe(1);
    expect(stderr.split('\n')).toEqual([
      'virtlab: --pcap /dev/full: ENOSPC: no space left on device, write; nothing more is captured',
      'virtlab: shutting down',
      expect.stringMatching(/^virtlab: --pcap \/dev\/full: EIO: The capture is not complete: ENOSPC: /),
      '',
    ]);
  });

  it('into a pipe: SIGTERM ends it, whatever the reader does', async () => {
    const path = fresh('pipe');
    execFileSync('mkfifo', [path]);
    const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    // It is full, and nobody takes anything.
    const filler = spawn('dd', ['if=/dev/zero', `of=${path}`, 'bs=64K', 'count=1'], { stdio: 'ignore' });
    await new Promise((resolve) => void filler.once('exit', resolve));
    const child = startVirtlab(['vhost-user-net', '-s', fresh('s'), '--pcap', path]);
    const ended = finish(child);
    await lines(child, 1);
    child.kill('SIGTERM');
    const { code, stderr } = await ended;
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /^virtlab: shutting down\nvirtlab: --pcap [^\n]*EAGAIN[^\n]*\n[^\n]*EAGAIN[^\n]*\n$/,
    );
    closeSync(reader);
  });
});

const ffi = linuxFfi();
const reason = ffi.available ? NetworkNamespace.unavailable() : ffi.reason;
// VIRTLAB_NO_NETNS=1: whoever runs the tests knows that this machine does not allow it, and has said so.
const isRequired = process.env['VIRTLAB_REQUIRE_PEERS'] === '1' && process.env['VIRTLAB_NO_NETNS'] !== '1';
if (reason !== undefined && isRequired) throw new Error(reason);

describe.skipIf(reason !== undefined)(`--tap${reason === undefined ? '' : ` (${reason})`}`, () => {
  it('that somebody deletes leaves the switch, which goes on', { timeout: 60_000 }, async () => {
    await using namespace = await NetworkNamespace.create();
    const program = ['--conditions=@virtlab/source', join(import.meta.dirname, '../main.ts')];
    const args = ['vhost-user-net', '--json', '-s', fresh('s'), '--tap', 'vl0'];
    const child = namespace.spawn(process.execPath, [...program, ...args]);
    const ended = finish(child);
    const reports = lines(child, 2);
    await lines(child, 1);
    await namespace.check('ip', 'link', 'delete', 'vl0');
    const [, left] = await reports;
    expect(JSON.parse(left!)).toEqual({
      event: 'left',
      port: 'tap vl0',
      reason: 'the interface was deleted',
    });
    child.kill('SIGTERM');
    expect(await ended).toMatchObject({ code: 143, stderr: 'virtlab: shutting down\n' });
  });
});
