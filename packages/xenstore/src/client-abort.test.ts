import { domId } from '@virtlab/abi/brands';
import { describe, expect, it } from 'vitest';
import { XenstoreClient } from './client.ts';
import { createXenstore } from './create-xenstore.ts';
import { memoryStreamPair } from './memory-stream.ts';
import { PROFILE_C_HEAD } from './profile-c-head.ts';

const DOM0 = domId(0);
const never = (): Promise<never> => new Promise(() => undefined);
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('AbortSignal', () => {
  it('transaction: abandons one whose body still runs, at once; its further calls reject', async () => {
    const xenstore = createXenstore();
    const client = xenstore.connect(DOM0);
    const abort = new AbortController();
    let late: Promise<unknown> | undefined;
    const running = client.transaction(
      async (tx) => {
        await tx.write('/a', '1');
        abort.abort(new Error('enough'));
        late = tx.write('/a', '2');
        late.catch(() => undefined);
        await never();
      },
      { signal: abort.signal },
    );
    await expect(running).rejects.toThrow('enough');
    await expect(late).rejects.toThrow('enough');
    expect(await client.exists('/a')).toBe(false);
    xenstore.assertQuiescent();
    xenstore.close();
  });

  it('transaction: ends the loop of attempts, and a back-off between them', async () => {
    const xenstore = createXenstore({ faults: { eagain: 1000 } });
    const client = xenstore.connect(DOM0);
    const abort = new AbortController();
    const attempts: number[] = [];
    const running = client.transaction((tx) => tx.mkdir('/a'), {
      signal: abort.signal,
      backoffMs: (attempt) => {
        attempts.push(attempt);
        if (attempt === 3) setImmediate(() => abort.abort(new Error('enough')));
        return attempt === 3 ? 1_000_000 : 0;
      },
    });
    await expect(running).rejects.toThrow('enough');
    expect(attempts).toEqual([1, 2, 3]);
    xenstore.assertQuiescent();
    xenstore.close();
  });

  it('transaction: an aborted signal lets nothing begin', async () => {
    const xenstore = createXenstore();
    const client = xenstore.connect(DOM0);
    const signal = AbortSignal.abort(new Error('too late'));
    await expect(client.transaction(() => Promise.resolve(), { signal })).rejects.toThrow('too late');
    expect(xenstore.daemonStatistics().requestCount).toBe(0);
    xenstore.close();
  });

  it('watch: ends the iteration and unregisters', async () => {
    const xenstore = createXenstore();
    const client = xenstore.connect(DOM0);
    const abort = new AbortController();
    const watch = await client.watch('/a', undefined, { signal: abort.signal });
    const seen: string[] = [];
    for await (const { path } of watch) {
      seen.push(path);
      if (seen.length === 2) abort.abort();
      else await client.write('/a/x', '');
    }
    expect(seen).toEqual(['/a', '/a/x']);
    await client.exists('/');
    xenstore.assertQuiescent();
    xenstore.close();
  });

  it('watch: an abort while it is registered leaves none behind', async () => {
    const xenstore = createXenstore();
    const client = xenstore.connect(DOM0);
    const abort = new AbortController();
    const registering = client.watch('/a', undefined, { signal: abort.signal });
    abort.abort(new Error('never mind'));
    await expect(registering).rejects.toThrow('never mind');
    xenstore.assertQuiescent();
    xenstore.close();
  });

  it('a closed watch no longer listens to its signal', async () => {
    const xenstore = createXenstore();
    const client = xenstore.connect(DOM0);
    const abort = new AbortController();
    const watch = await client.watch('/a', undefined, { signal: abort.signal });
    await watch.close();
    abort.abort();
    await client.exists('/');
    expect(xenstore.daemonStatistics().requests['UNWATCH']).toBe(1);
    xenstore.close();
  });

  it('withSignal: a call to a daemon that does not answer is given up; a late reply is no violation', async () => {
    const xenstore = createXenstore();
    const [end, serverEnd] = memoryStreamPair();
    const client = new XenstoreClient(end);
    const abort = new AbortController();
    const reading = client.withSignal(abort.signal).read('/tool');
    await turn();
    abort.abort(new Error('no patience'));
    await expect(reading).rejects.toThrow('no patience');
    await expect(client.withSignal(abort.signal).read('/tool')).rejects.toThrow('no patience');
    xenstore.server.accept(serverEnd, { domid: 0, privileged: true });
    expect(await client.readText('/tool')).toBe('');
    client.close();
    xenstore.close();
  });
});

describe('watch options', () => {
  it('an iteration that does not keep up is bounded, and told that it missed something', async () => {
    const xenstore = createXenstore();
    const client = xenstore.connect(DOM0);
    const watch = await client.watch('/w', undefined, { queueCount: 10 });
    for (let i = 0; i < 105; i++) await client.write(`/w/${i}`, '');
    const seen = [];
    for await (const event of watch) {
      seen.push(event);
      if (event.path === '/w/104') break;
    }
    expect(seen.length).toBeLessThanOrEqual(11);
    expect(seen[0]).toMatchObject({ path: '/w', isOverflow: true });
    xenstore.close();
  });

  it('depth: only so many levels below are heard of, where the daemon knows it', async () => {
    const xenstore = createXenstore({ profile: PROFILE_C_HEAD });
    const client = xenstore.connect(DOM0);
    const paths: string[] = [];
    await client.watch('/w', ({ path }) => paths.push(path), { depth: 1 });
    await client.write('/w/a', '');
    await client.write('/w/a/b', '');
    await client.write('/w', '');
    expect(paths).toEqual(['/w', '/w/a', '/w']);
    const old = createXenstore();
    await expect(old.connect(DOM0).watch('/w', undefined, { depth: 1 })).rejects.toMatchObject({
      code: 'EINVAL',
    });
    old.close();
    xenstore.close();
  });
});

describe('features and quotas of newer daemons', () => {
  it('GET_FEATURE, SET_FEATURE, GET_QUOTA, SET_QUOTA', async () => {
    const xenstore = createXenstore({ profile: PROFILE_C_HEAD });
    const client = xenstore.connect(DOM0);
    expect(await client.getFeatures()).toBe(PROFILE_C_HEAD.serverFeatures);
    expect(await client.quotaNames()).toContain('nodes');
    expect(await client.getQuota('nodes')).toBe(1000);
    await client.setQuota('nodes', 5);
    expect(await client.getQuota('nodes')).toBe(5);
    await client.introduce(domId(5), 1, 1 as Parameters<typeof client.introduce>[2]);
    await client.setQuota('nodes', 7, domId(5));
    expect(await client.getQuota('nodes', domId(5))).toBe(7);
    await expect(client.getQuota('none')).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(client.setFeatures(domId(5), 0)).rejects.toMatchObject({ code: 'EBUSY' });
    xenstore.close();
  });

  it('ENOSYS from the daemon of Xen 4.17', async () => {
    const xenstore = createXenstore();
    const client = xenstore.connect(DOM0);
    await expect(client.getFeatures()).rejects.toMatchObject({ code: 'ENOSYS', op: 'GET_FEATURE' });
    await expect(client.quotaNames()).rejects.toMatchObject({ code: 'ENOSYS', op: 'GET_QUOTA' });
    xenstore.close();
  });
});
