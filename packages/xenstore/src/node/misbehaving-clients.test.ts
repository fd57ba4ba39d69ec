import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { type Socket, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { XS_READ, XS_TRANSACTION_START, XS_WATCH, XS_WRITE } from '@virtlab/abi/xs-wire';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { XenstoreClient } from '../client.ts';
import { encodePacket } from '../wire.ts';
import { connectXenstore } from './connect.ts';
import { startXenstored } from './start-xenstored.ts';
import type { Xenstored } from './xenstored.ts';

let directory: string;
let daemon: Xenstored;
let good: XenstoreClient;
let fdCount: number;

const openFds = (): number => readdirSync('/proc/self/fd').length;
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await turn();
}

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'virtlab-xenstored-'));
  daemon = await startXenstored({ socketPath: join(directory, 'socket') });
  good = await connectXenstore(daemon.socketPath);
  await good.exists('/');
  fdCount = openFds();
});

/** Nothing that a bad client did may be left: no connection, watch, transaction or descriptor. */
afterEach(async () => {
  await until(() => daemon.statistics().connections.length === 1);
  const { watchCount, transactionCount } = daemon.statistics();
  expect({ watchCount, transactionCount }).toEqual({ watchCount: 0, transactionCount: 0 });
  expect(await good.readText('/tool')).toBe('');
  await until(() => openFds() === fdCount);
  good.close();
  await daemon.close();
  rmSync(directory, { recursive: true });
});

function raw(): Socket {
  const socket = connect(daemon.socketPath);
  socket.on('error', () => undefined);
  return socket;
}

async function connected(count: number): Promise<void> {
  await until(() => daemon.statistics().connections.length === count + 1);
}

describe('a client that', () => {
  it('never reads its replies: its requests wait, bounded; others are served', async () => {
    await good.write('/large', 'x'.repeat(4000));
    const greedy = raw();
    greedy.pause();
    const requests = Buffer.concat(
      Array.from({ length: 500 }, () => encodePacket(XS_READ, 1, 0, '/large\0')),
    );
    for (let i = 0; i < 20; i++) greedy.write(requests);
    await connected(1);
    await until(() => daemon.statistics().connections[1]!.waitsFor === 'output');
    const { requestCount } = daemon.statistics().connections[1]!;
    for (let i = 0; i < 100; i++) expect(await good.readText('/tool')).toBe('');
    const [, report] = daemon.statistics().connections;
    expect(report).toMatchObject({ waitsFor: 'output', requestCount });
    expect(report!.outputSize).toBeLessThan(70_000);
    expect(requestCount).toBeLessThan(10_000);
    await good.rm('/large');
    greedy.destroy();
  });

  it('never reads its events: it is ended when too many distinct ones wait', async () => {
    const sleeper = raw();
    sleeper.pause();
    sleeper.write(encodePacket(XS_WATCH, 1, 0, `/w\0${'t'.repeat(4000)}\0`));
    await until(() => daemon.store.watchCount === 1);
    let count = 0;
    for (; daemon.store.watchCount === 1; count++) {
      if (count % 50 === 0) await good.write(`/w/${count}`, '');
      else void good.write(`/w/${count}`, '').catch(() => undefined);
      expect(count).toBeLessThan(20_000);
    }
    await good.rm('/w');
    expect(count).toBeGreaterThan(1000);
    sleeper.destroy();
  });

  it('opens transactions and sleeps: they cost what they touched, and end with it', async () => {
    const sleeper = raw();
    for (let i = 0; i < 1000; i++) sleeper.write(encodePacket(XS_TRANSACTION_START, i, 0, '\0'));
    await until(() => daemon.statistics().transactionCount === 1000);
    for (let id = 1; id <= 1000; id++) sleeper.write(encodePacket(XS_WRITE, id, id, `/t/${id}\0x`));
    await until(() => daemon.statistics().connections[1]?.requestCount === 2000);
    await good.write('/mine', '1');
    await good.transaction((tx) => tx.write('/mine', '2'));
    expect(await good.exists('/t')).toBe(false);
    sleeper.destroy();
    await connected(0);
    expect(daemon.store.nodeCount).toBe(4);
    await good.rm('/mine');
  });

  it.each([1, 15, 16, 17, 20])('dies after %i bytes of a frame: nothing happens', async (size) => {
    const dying = raw();
    dying.write(encodePacket(XS_WRITE, 1, 0, '/never\0value').subarray(0, size));
    await connected(1);
    await turn();
    dying.destroy();
    await connected(0);
    expect(await good.exists('/never')).toBe(false);
  });

  it('announces a payload over the limit: it alone is ended', async () => {
    const broken = raw();
    const closed = new Promise((resolve) => broken.once('close', resolve));
    broken.write(Uint8Array.from([2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 16, 0, 0]));
    await closed;
    await connected(0);
    expect(daemon.statistics().connections).toMatchObject([{ id: 1, requestCount: 1 }]);
  });
});

describe('1000 connections', () => {
  it('opened, used and closed leave nothing', async () => {
    for (let round = 0; round < 4; round++) {
      const sockets = Array.from({ length: 250 }, raw);
      for (const socket of sockets) socket.write(encodePacket(XS_WATCH, 1, 0, '/tool\0t\0'));
      await until(() => daemon.store.watchCount === 250);
      await good.write('/tool', '');
      for (const [index, socket] of sockets.entries()) {
        if (index % 2 === 0) socket.end();
        else socket.destroy();
        socket.resume();
      }
      await connected(0);
    }
    expect(daemon.statistics().fanOut[0]).toMatchObject({ path: '/tool', changeCount: 4, eventCount: 1000 });
  });
});
