import { domId } from '@virtlab/abi/brands';
import { XS_WATCH_EVENT, XS_WRITE } from '@virtlab/abi/xs-wire';
import { describe, expect, it } from 'vitest';
import { ScriptConnection } from './conformance-script.ts';
import { createXenstore } from './create-xenstore.ts';
import { FaultInjector } from './fault-injector.ts';
import { ManualClock } from './manual-clock.ts';
import { memoryStreamPair } from './memory-stream.ts';
import { parseFault } from './parse-fault.ts';
import { XENSTORE_PROFILES } from './profiles.ts';
import type { XenstoreWatchEvent } from './contract.ts';

const DOM0 = domId(0);
const PROFILES = [...XENSTORE_PROFILES.values()];
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('forced EAGAIN', () => {
  it.each(PROFILES)('$name: transaction() retries through as many as there are', async (profile) => {
    const xenstore = createXenstore({ profile, faults: { eagain: 3 } });
    const client = xenstore.connect(DOM0);
    let attemptCount = 0;
    await client.transaction(async (tx) => {
      attemptCount += 1;
      await tx.write('/a', String(attemptCount));
    });
    expect(attemptCount).toBe(4);
    expect(await client.readText('/a')).toBe('4');
    expect(xenstore.faults.plan).toEqual({});
    expect(xenstore.daemonStatistics()).toMatchObject({ errors: { EAGAIN: 3 }, conflicts: [] });
    xenstore.close();
  });

  it('with limited retries it is passed on; nothing was changed, no event fired', async () => {
    const xenstore = createXenstore({ faults: { eagain: 3 } });
    const client = xenstore.connect(DOM0);
    const events: XenstoreWatchEvent[] = [];
    await client.watch('/a', (event) => events.push(event));
    const attempt = client.transaction((tx) => tx.write('/a', '1'), { retries: 2 });
    await expect(attempt).rejects.toMatchObject({ code: 'EAGAIN' });
    expect(await client.exists('/a')).toBe(false);
    expect(events).toHaveLength(1);
    xenstore.close();
  });

  it('an abandoned transaction uses none up', async () => {
    const xenstore = createXenstore({ faults: { eagain: 1 } });
    const client = xenstore.connect(DOM0);
    await expect(client.transaction(() => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(xenstore.faults.plan).toEqual({ eagain: 1 });
    xenstore.close();
  });

  it('by probability: the same seed fails the same commits, another others', async () => {
    const failures = async (seed: number): Promise<string> => {
      const xenstore = createXenstore({ faults: { eagainProbability: 0.3 }, seed });
      const client = xenstore.connect(DOM0);
      let pattern = '';
      for (let i = 0; i < 100; i++) {
        const commit = client.transaction((tx) => tx.exists('/'), { retries: 0 });
        pattern += await commit.then(
          () => '.',
          () => 'x',
        );
      }
      xenstore.close();
      return pattern;
    };
    const first = await failures(7);
    expect(await failures(7)).toBe(first);
    expect(await failures(8)).not.toBe(first);
    const count = first.replaceAll('.', '').length;
    expect(count).toBeGreaterThan(10);
    expect(count).toBeLessThan(60);
  });
});

describe('delayed events', () => {
  it('come late, in order, and not before; requests go on meanwhile', async () => {
    const clock = new ManualClock();
    const xenstore = createXenstore({ clock, faults: { eventDelayMs: 50 } });
    const client = xenstore.connect(DOM0);
    const paths: string[] = [];
    await client.watch('/w', ({ path }) => paths.push(path));
    for (const name of ['a', 'b', 'c']) {
      await client.write(`/w/${name}`, '');
      clock.advance(10);
    }
    await turn();
    expect(paths).toEqual([]);
    clock.advance(20);
    await turn();
    expect(paths).toEqual(['/w', '/w/a']);
    clock.advance(20);
    await turn();
    expect(paths).toEqual(['/w', '/w/a', '/w/b', '/w/c']);
    expect(clock.pendingCount).toBe(0);
    xenstore.close();
  });

  it('die with their connection, and their timers too', async () => {
    const clock = new ManualClock();
    const xenstore = createXenstore({ clock, faults: { eventDelayMs: 50 } });
    const client = xenstore.connect(DOM0);
    await client.watch('/w', () => undefined);
    expect(clock.pendingCount).toBe(1);
    client.close();
    await turn();
    expect(clock.pendingCount).toBe(0);
    xenstore.close();
  });

  it('stay in order when the delay is taken away', async () => {
    const clock = new ManualClock();
    const xenstore = createXenstore({ clock });
    const client = xenstore.connect(DOM0);
    const paths: string[] = [];
    await client.watch('/w', ({ path }) => paths.push(path));
    xenstore.faults.set({ eventDelayMs: 50 });
    await client.write('/w/late', '');
    xenstore.faults.clear();
    await client.write('/w/next', '');
    expect(paths).toEqual(['/w']);
    clock.advance(50);
    await turn();
    expect(paths).toEqual(['/w', '/w/late', '/w/next']);
    await client.write('/w/now', '');
    expect(paths.at(-1)).toBe('/w/now');
    xenstore.close();
  });

  it('a guest’s request stays outstanding until they are delivered, and is settled once', async () => {
    const clock = new ManualClock();
    const xenstore = createXenstore({ clock });
    const tools = xenstore.connect(DOM0);
    const guest = xenstore.connect(domId(5));
    await tools.mkdir('/g');
    await tools.setPermissions('/g', [{ domid: 5, access: 'n' }]);
    await tools.watch('/g', () => undefined);
    xenstore.faults.set({ eventDelayMs: 50 });
    await guest.write('/g/x', '1');
    expect(xenstore.store.domain(5)!.outstandingCount).toBe(1);
    clock.advance(50);
    await turn();
    expect(xenstore.store.domain(5)!.outstandingCount).toBe(0);
    xenstore.close();
  });

  it('are bounded: a privileged watcher’s by the backlog, a guest’s by its memory', async () => {
    const clock = new ManualClock();
    const limits = { backlogSize: 10_000 };
    const xenstore = createXenstore({ clock, limits, quotas: { memorySize: 10_000 } });
    const tools = xenstore.connect(DOM0);
    await tools.mkdir('/w');
    await tools.setPermissions('/w', [{ domid: 0, access: 'r' }]);
    const watcher = xenstore.connect(DOM0);
    const guest = xenstore.connect(domId(5));
    const heard: string[] = [];
    await watcher.watch('/w', () => undefined);
    await guest.watch('/w', ({ path }) => heard.push(path));
    xenstore.faults.set({ eventDelayMs: 1000 });
    for (let i = 0; i < 1000; i++) await tools.write(`/w/${i}`, '');
    expect(xenstore.statistics().connections.map(({ domid }) => domid)).toEqual([0, 5]);
    clock.advance(1000);
    await turn();
    await turn();
    expect(heard.length).toBeGreaterThan(50);
    expect(heard.length).toBeLessThan(200);
    xenstore.close();
  });
});

describe('batched events', () => {
  it('wait for each other, identical ones once, or for the connection’s next reply', async () => {
    const xenstore = createXenstore({ faults: { eventBatch: 3 } });
    const writer = xenstore.connect(DOM0);
    const watcher = xenstore.connect(DOM0);
    const paths: string[] = [];
    await watcher.watch('/w', ({ path }) => paths.push(path));
    await watcher.exists('/');
    expect(paths).toEqual(['/w']);
    await writer.write('/w/a', '1');
    await writer.write('/w/a', '2');
    await writer.write('/w/b', '1');
    await turn();
    expect(paths).toEqual(['/w']);
    await writer.write('/w/c', '1');
    await turn();
    expect(paths).toEqual(['/w', '/w/a', '/w/b', '/w/c']);
    await writer.write('/w/d', '1');
    await watcher.exists('/');
    expect(paths.at(-1)).toBe('/w/d');
    xenstore.close();
  });
});

describe('disconnect at byte k', () => {
  it.each([0, 1, 16, 17, 18, 19, 30])('the client gets exactly %i bytes, then the end', async (size) => {
    const xenstore = createXenstore({ faults: { disconnectAtByte: size } });
    const [end, serverEnd] = memoryStreamPair();
    xenstore.server.accept(serverEnd, { domid: 0, privileged: true });
    let received = 0;
    const closed = new Promise<void>((resolve) => {
      end.attach({
        onData: (bytes) => {
          received += bytes.length;
        },
        onDrain: () => undefined,
        onClose: () => resolve(),
      });
    });
    // Each reply is 19 bytes: header and `OK|`.
    for (let i = 0; i < 3; i++) {
      const packet = new Uint8Array([XS_WRITE, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 47, 97, 0, 49]);
      end.send(packet);
    }
    await closed;
    expect(received).toBe(size);
    expect(xenstore.statistics().connections).toEqual([]);
    xenstore.close();
  });

  it('pending requests of the client reject with EIO, and another connection is not cut when it was there before', async () => {
    const xenstore = createXenstore();
    const before = xenstore.connect(DOM0);
    await before.write('/a', 'x'.repeat(100));
    xenstore.faults.set({ disconnectAtByte: 50 });
    const after = xenstore.connect(DOM0);
    await expect(after.read('/a')).rejects.toMatchObject({ code: 'EIO' });
    expect(await after.closed).toBeDefined();
    expect(await before.read('/a')).toHaveLength(100);
    xenstore.close();
  });
});

describe('full quotas', () => {
  it.each(PROFILES)('$name: refuse domain 0 too, with the profile’s error', async (profile) => {
    const xenstore = createXenstore({ profile });
    const client = xenstore.connect(DOM0);
    await client.write('/old', '');
    xenstore.faults.set({ fullQuotas: ['nodes', 'watches', 'transactions'] });
    const isOx = profile.name === 'oxenstored';
    const spaceError = isOx ? 'EQUOTA' : 'ENOSPC';
    await expect(client.write('/new', '')).rejects.toMatchObject({ code: spaceError });
    await client.write('/old', 'changed');
    await expect(client.watch('/')).rejects.toMatchObject({
      code: profile.name === 'c-4.17' ? 'E2BIG' : spaceError,
    });
    await expect(client.transaction(() => Promise.resolve())).rejects.toMatchObject({ code: spaceError });
    expect(xenstore.daemonStatistics().quotas.map(({ quota, domid }) => [quota, domid])).toEqual(
      expect.arrayContaining([
        ['nodes', 0],
        ['watches', 0],
        ['transactions', 0],
      ]),
    );
    xenstore.faults.clear();
    await client.write('/new', '');
    xenstore.close();
  });

  it('outstanding: requests of guests wait until the fault is over', async () => {
    const xenstore = createXenstore();
    const client = xenstore.connect(domId(5));
    xenstore.faults.set({ fullQuotas: ['outstanding'] });
    let isAnswered = false;
    const reply = client.exists('/').then(() => (isAnswered = true));
    await turn();
    expect(isAnswered).toBe(false);
    expect(xenstore.daemonStatistics().connections[0]!.waitsFor).toBe('outstanding');
    xenstore.faults.clear();
    await reply;
    xenstore.close();
  });
});

describe('parseFault', () => {
  it.each([
    ['eagain=3', { eagain: 3 }],
    ['eagain-probability=0.1', { eagainProbability: 0.1 }],
    ['eagain-probability=.5', { eagainProbability: 0.5 }],
    ['delay-events=50', { eventDelayMs: 50 }],
    ['batch-events=4', { eventBatch: 4 }],
    ['disconnect-at=0', { disconnectAtByte: 0 }],
    ['full-quota=nodes', { fullQuotas: ['nodes'] }],
    ['full-quota=nodes,write-rate', { fullQuotas: ['nodes', 'write-rate'] }],
  ])('%s', (text, plan) => expect(parseFault(text)).toEqual(plan));

  it.each([
    '',
    'eagain',
    'eagain=',
    'eagain=-1',
    'eagain=1.5',
    'eagain=1e3',
    'eagain-probability=1.1',
    'eagain-probability=NaN',
    'eagain-probability=.',
    'full-quota=all',
    'full-quota=',
    'unknown=1',
    'clear',
  ])('%j is none', (text) => expect(() => parseFault(text)).toThrow(RangeError));

  it('a plan from a program is checked likewise, and a bad one changes nothing', () => {
    const faults = new FaultInjector({ eagain: 1 });
    expect(() => faults.set({ eagain: 5, eagainProbability: 2 })).toThrow('eagainProbability');
    expect(() => faults.set({ eventDelayMs: -1 })).toThrow('eventDelayMs');
    expect(() => faults.set({ fullQuotas: ['all'] })).toThrow('all');
    expect(faults.plan).toEqual({ eagain: 1 });
  });
});

describe('CONTROL fault', () => {
  it('sets, shows and clears while running; EINVAL changes nothing', async () => {
    const xenstore = createXenstore({ controlExtensions: true });
    const client = xenstore.connect(DOM0);
    expect(await client.control('fault', 'eagain=2', 'full-quota=nodes')).toBe('OK');
    expect(JSON.parse(await client.control('fault'))).toEqual({ eagain: 2, fullQuotas: ['nodes'] });
    await expect(client.control('fault', 'eagain=9', 'nonsense')).rejects.toMatchObject({ code: 'EINVAL' });
    expect(xenstore.faults.plan).toEqual({ eagain: 2, fullQuotas: ['nodes'] });
    expect(await client.control('fault', 'clear')).toBe('OK');
    expect(xenstore.faults.plan).toEqual({});
    xenstore.close();
  });

  it('events that a clear finds held are not lost', async () => {
    const xenstore = createXenstore({ controlExtensions: true });
    const [end, serverEnd] = memoryStreamPair();
    xenstore.server.accept(serverEnd, { domid: 0, privileged: true });
    const raw = new ScriptConnection(end);
    const tools = xenstore.connect(DOM0);
    raw.send(4, 0, '/w\0t\0');
    await raw.next();
    expect(await raw.next()).toMatchObject({ type: XS_WATCH_EVENT });
    await tools.control('fault', 'batch-events=100');
    await tools.write('/w', '1');
    await tools.control('fault', 'clear');
    raw.send(2, 0, '/w\0');
    expect(await raw.next()).toMatchObject({ type: XS_WATCH_EVENT });
    expect(await raw.next()).toMatchObject({ type: 2 });
    xenstore.close();
  });
});
