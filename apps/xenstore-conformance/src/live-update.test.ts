import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { tmpdir } from 'node:os';
import { domId } from '@virtlab/abi/brands';
import {
  XS_STATE_PREAMBLE,
  XS_STATE_RECORD_HEADER,
  XS_STATE_TYPE_CONN,
  XS_STATE_TYPE_GLOBAL,
} from '@virtlab/abi/xs-migration';
import { type RealXenstored, realXenstoredAvailability, startRealXenstored } from '@virtlab/xen-preload';
import { createXenstore } from '@virtlab/xenstore';
import { connectXenstore, startXenstored, writeDump } from '@virtlab/xenstore/node';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

/** Xen's own daemon writes and reads the dumps that ours reads and writes: its live update goes through them. */
const availability = realXenstoredAvailability('c');
const isRequired = process.env['VIRTLAB_REQUIRE_PEERS'] === '1';
if (availability.status === 'missing') console.warn(`skipped: ${availability.reason}`);

let directory: string;
let real: RealXenstored;
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'virtlab-live-update-'));
  real = await startRealXenstored({ kind: 'c' });
});
afterEach(async () => {
  await real.close();
  rmSync(directory, { recursive: true });
});

const at = (name: string): string => join(directory, name);

/**
 * Lets the real daemon update itself. Between its two lives it hands out the state that it wrote, and takes what
 * `exchange` returns instead: the program that it starts is a script that waits at two FIFOs.
 */
async function liveUpdate(exchange: (state: Buffer) => Promise<Uint8Array>): Promise<void> {
  const state = join(dirname(real.socketPath), 'state_dump');
  execFileSync('mkfifo', [at('out'), at('in')]);
  const program = '/usr/lib/xen-4.17/bin/xenstored';
  writeFileSync(
    at('next'),
    `#!/bin/sh\ncat ${state} > ${at('out')}\ncat ${at('in')} > ${state}\nexec ${program} "$@"\n`,
  );
  chmodSync(at('next'), 0o755);
  const client = await connectXenstore(real.socketPath);
  expect(await client.control('live-update', '-f', at('next'))).toBe('OK');
  const updated = client.control('live-update', '-s', '-F');
  await writeFile(at('in'), await exchange(await readFile(at('out'))));
  expect(await updated).toBe('OK');
  client.close();
}

/** What a stream says of the daemon's descriptors and connections: everything before its first node. */
function connectionRecords(state: Buffer): Buffer {
  let end: number = XS_STATE_PREAMBLE.size;
  for (;;) {
    const { type, length } = XS_STATE_RECORD_HEADER.read(
      new DataView(state.buffer, state.byteOffset, state.length),
      end,
    );
    if (type !== XS_STATE_TYPE_GLOBAL && type !== XS_STATE_TYPE_CONN) break;
    end += XS_STATE_RECORD_HEADER.size + length;
  }
  return state.subarray(XS_STATE_PREAMBLE.size, end);
}

function nodeRecords(state: Buffer): Buffer {
  return state.subarray(XS_STATE_PREAMBLE.size + connectionRecords(state).length);
}

describe.skipIf(availability.status === 'missing' && !isRequired)('live update of the C daemon', () => {
  it('ours restores what the real daemon wrote', async () => {
    const client = await connectXenstore(real.socketPath);
    const binary = Uint8Array.from({ length: 256 }, (_, i) => i);
    await client.write('/vm/binary', binary);
    for (const name of ['z', 'a', 'm']) await client.write(`/vm/order/${name}`, name);
    await client.setPermissions('/vm/order', [
      { domid: 0, access: 'r' },
      { domid: 0, access: 'b' },
    ]);
    await client.setPermissions('@releaseDomain', [{ domid: 0, access: 'r' }]);
    await liveUpdate(async (state) => {
      await writeFile(at('dump'), state);
      return state;
    });
    const ours = await startXenstored({ socketPath: at('socket'), restore: at('dump') });
    const reader = await connectXenstore(ours.socketPath);
    expect(await reader.read('/vm/binary')).toEqual(binary);
    expect(await reader.directory('/vm/order')).toEqual(['z', 'a', 'm']);
    expect(await reader.getPermissions('/vm/order')).toEqual(await client.getPermissions('/vm/order'));
    expect(await reader.directory('/')).toEqual(await client.directory('/'));
    // What ours saves of it is what the real one saved, byte for byte, but for descriptors and connections.
    await writeDump(at('again'), ours.store);
    const [saved, original] = [await readFile(at('again')), await readFile(at('dump'))];
    expect(nodeRecords(saved).equals(nodeRecords(original))).toBe(true);
    client.close();
    reader.close();
    await ours.close();
  });

  it('the real daemon goes on with what ours wrote', async () => {
    const xenstore = createXenstore();
    const tools = xenstore.connect(domId(0));
    await tools.write('/from/ours/binary', Uint8Array.from([0, 1, 255]));
    for (const name of ['z', 'a', 'm']) await tools.write(`/from/order/${name}`, name);
    await tools.setPermissions('/from/ours', [
      { domid: 0, access: 'b' },
      { domid: 0, access: 'w' },
    ]);
    await writeDump(at('ours'), xenstore.store);
    const client = await connectXenstore(real.socketPath);
    await client.write('/before', '');
    await liveUpdate(async (state) => {
      const bytes = await readFile(at('ours'));
      const preamble = bytes.subarray(0, XS_STATE_PREAMBLE.size);
      return Buffer.concat([preamble, connectionRecords(state), nodeRecords(bytes)]);
    });
    expect(await client.exists('/before')).toBe(false);
    expect([...(await client.read('/from/ours/binary'))]).toEqual([0, 1, 255]);
    expect(await client.directory('/from/order')).toEqual(['z', 'a', 'm']);
    expect(await client.getPermissions('/from/ours')).toEqual(await tools.getPermissions('/from/ours'));
    expect(await client.control('check')).toBe('OK');
    client.close();
    xenstore.close();
  });
});
