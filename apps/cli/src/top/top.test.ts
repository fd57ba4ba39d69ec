import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { type DaemonStatistics, createXenstore } from '@virtlab/xenstore';
import { connectXenstore, listenXenstore } from '@virtlab/xenstore/node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type DaemonUnderTest,
  commandLine,
  finish,
  lines,
  needs,
  programAt,
  startDaemon,
  startVirtlab,
  virtlabAt,
} from '../testing/virtlab.ts';
import { type TopSnapshot, compareStatistics } from './rates.ts';
import { renderSnapshot } from './render.ts';

const SCRIPT = needs('script', 'bsdutils');

const EARLIER: DaemonStatistics = {
  profile: 'c-4.17',
  uptimeMs: 3_600_000,
  nodeCount: 10,
  watchCount: 2,
  transactionCount: 1,
  requestCount: 1000,
  eventCount: 50,
  requests: { READ: 900, WRITE: 100 },
  errors: {},
  connections: [
    {
      id: 1,
      domid: 0,
      kind: 'socket',
      privileged: true,
      requestCount: 1000,
      eventCount: 50,
      coalescedCount: 0,
      watchCount: 2,
      transactionCount: 1,
      outputSize: 0,
      waitsFor: undefined,
    },
  ],
  domains: [],
  quotas: [],
  conflicts: [],
  fanOut: [],
};

const LATER: DaemonStatistics = {
  ...EARLIER,
  uptimeMs: 3_602_000,
  requestCount: 1700,
  eventCount: 250,
  requests: { READ: 1000, WRITE: 100, MKDIR: 600 },
  errors: { ENOENT: 2, EAGAIN: 7 },
  connections: [
    { ...EARLIER.connections[0]!, requestCount: 1100 },
    {
      ...EARLIER.connections[0]!,
      id: 4,
      domid: 9,
      kind: 'ring',
      privileged: false,
      requestCount: 600,
      eventCount: 200,
      outputSize: 70_000,
      waitsFor: 'output',
    },
  ],
  domains: [
    {
      domid: 9,
      introduced: true,
      nodeCount: 990,
      watchCount: 3,
      transactionCount: 0,
      outstandingCount: 4,
      memorySize: 100_000,
      connectionCount: 1,
    },
  ],
  quotas: [{ quota: 'nodes', domid: 9, count: 12, last: '/local/domain/9/x' }],
  conflicts: [
    { path: '/shared', count: 7, writerId: 4, writerDomid: 9, loserId: 1, loserDomid: 0 },
    { path: '/old', count: 1, writerId: 0, writerDomid: 0, loserId: 1, loserDomid: 0 },
  ],
  fanOut: [{ path: '/heard', changeCount: 10, eventCount: 1000 }],
};

describe('a snapshot', () => {
  const snapshot = compareStatistics(EARLIER, LATER);

  it('has rates of the interval by the daemon’s clock, busiest first', () => {
    expect(snapshot).toMatchObject({ intervalMs: 2000, requestsPerSecond: 350, eventsPerSecond: 100 });
    expect(snapshot.operations).toEqual([
      { name: 'MKDIR', perSecond: 300 },
      { name: 'READ', perSecond: 50 },
    ]);
    expect(
      snapshot.connections.map((each) => [each.id, each.requestsPerSecond, each.eventsPerSecond]),
    ).toEqual([
      [4, 300, 100],
      [1, 50, 0],
    ]);
  });

  it('shows who waits, who is at a quota, who lost to whom and what is expensive', () => {
    const text = stripVTControlCharacters(renderSnapshot(snapshot, new Map([['nodes', 1000]])).join('\n'));
    expect(text).toContain('up 1:00:02');
    expect(text).toMatch(/error replies {2}EAGAIN 7 {2}ENOENT 2/);
    expect(text).toMatch(/^4 +9 +ring, unprivileged +300 +100 +0 +2 +1 +68K +output$/m);
    expect(text).toMatch(/^9 +990\/1000 +3 +0 +4 +98K +1$/m);
    expect(text).toMatch(/^nodes +9 +12 +\/local\/domain\/9\/x$/m);
    expect(text).toMatch(/^\/shared +7 +connection 4, domain 9 +connection 1, domain 0$/m);
    expect(text).toMatch(/^\/old +1 +unknown/m);
    expect(text).toMatch(/^\/heard +10 +1000 +100$/m);
  });

  it('has no rates where no time went by', () => {
    expect(compareStatistics(LATER, LATER)).toMatchObject({ requestsPerSecond: 0, operations: [] });
  });
});

describe('virtlab xs top', { timeout: 60_000 }, () => {
  let folder: string;
  let daemon: DaemonUnderTest;
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'virtlab-top-'));
    daemon = await startDaemon(['--socket', join(folder, 'socket')]);
  });
  afterAll(async () => {
    await daemon.end();
    rmSync(folder, { recursive: true });
  });

  it('--json prints a snapshot a line: a conflict with node, writer and loser', async () => {
    const [winner, loser] = [
      await connectXenstore(daemon.socketPath),
      await connectXenstore(daemon.socketPath),
    ];
    await winner.write('/fought-over', '0');
    let attemptCount = 0;
    await loser.transaction(async (tx) => {
      await tx.read('/fought-over');
      if ((attemptCount += 1) === 1) await winner.write('/fought-over', '1');
      await tx.write('/fought-over', '2');
    });
    const run = await virtlabAt(
      daemon.socketPath,
      'xs',
      'top',
      '--json',
      '--interval',
      '0.05',
      '--count',
      '2',
    );
    expect({ code: run.code, stderr: run.stderr }).toEqual({ code: 0, stderr: '' });
    const snapshots = run.stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as TopSnapshot);
    expect(snapshots).toHaveLength(2);
    const { statistics, connections } = snapshots[1]!;
    expect(statistics.conflicts).toMatchObject([{ path: '/fought-over', count: 1 }]);
    const [{ writerId, loserId }] = statistics.conflicts as [DaemonStatistics['conflicts'][number]];
    expect(connections.map(({ id }) => id)).toEqual(expect.arrayContaining([writerId, loserId]));
    expect(writerId).not.toBe(loserId);
    expect(statistics.errors['EAGAIN']).toBe(1);
    winner.close();
    loser.close();
  });

  it('shows a quota that fired and a change that many hear of', async () => {
    const other = await startDaemon(['--socket', join(folder, 'full'), '--fault', 'full-quota=transactions']);
    const store = await connectXenstore(other.socketPath);
    for (let index = 0; index < 5; index++) await store.watch('/heard', () => undefined);
    await store.write('/heard', '1');
    await expect(store.transaction((tx) => tx.read('/heard'))).rejects.toThrow(/ENOSPC/);
    const { stdout } = await virtlabAt(other.socketPath, 'xs', 'top', '-i', '0.05', '-n', '1');
    expect(stdout).toMatch(/^transactions +0 +1 +TRANSACTION_START$/m);
    expect(stdout).toMatch(/^\/heard +1 +5 +5\.0$/m);
    store.close();
    await other.end();
  });

  it('prints snapshots one after the other where there is no terminal', async () => {
    const run = await virtlabAt(daemon.socketPath, 'xs', 'top', '-i', '0.05', '-n', '2');
    expect(run.stdout.match(/^xenstored c-4\.17 {2}up 0:00:\d\d/gm)).toHaveLength(2);
    expect(run.stdout).toMatch(/^CONNECTION +DOM +KIND/m);
    expect(run.stdout).not.toContain('\u001B');
  });

  it.skipIf(SCRIPT.missing)(`redraws on a terminal${SCRIPT.note}`, async () => {
    const { stdout } = await programAt(
      daemon.socketPath,
      'script',
      '-qec',
      `stty cols 100 rows 30; ${commandLine()} xs top -i 0.05 -n 2`,
      '/dev/null',
    );
    expect(stdout.split('\u001B[H')).toHaveLength(3);
  });

  it('says that a daemon without statistics has none', async () => {
    const plain = createXenstore();
    const path = join(folder, 'plain');
    const listener = await listenXenstore({ path, server: plain.server });
    const run = await virtlabAt(path, 'xs', 'top', '--count', '1');
    expect(run).toMatchObject({ code: 1, stdout: '' });
    expect(run.stderr).toMatch(/^virtlab: this daemon has no statistics/);
    await listener.close();
    plain.close();
  });

  it('says so when the daemon goes away', async () => {
    const other = await startDaemon(['--socket', join(folder, 'other')]);
    const child = startVirtlab(['xs', 'top', '-i', '0.1', '--socket', other.socketPath]);
    const run = finish(child);
    await lines(child, 1);
    await other.end();
    expect(await run).toMatchObject({ code: 1 });
    expect((await run).stderr).toMatch(/^virtlab: CONTROL: EIO/);
  });
});
