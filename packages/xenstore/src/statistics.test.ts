import { domId } from '@virtlab/abi/brands';
import { describe, expect, it } from 'vitest';
import { XenstoreClient } from './client.ts';
import { type CreateXenstoreOptions, type InProcessXenstore, createXenstore } from './create-xenstore.ts';
import { memoryStreamPair } from './memory-stream.ts';
import { PROFILE_OXENSTORED } from './profile-oxenstored.ts';
import { readStatistics } from './read-statistics.ts';
import { XENSTORE_PROFILES } from './profiles.ts';
import { Tally } from './tally.ts';

const DOM0 = domId(0);
const DOM5 = domId(5);

function observed(options: CreateXenstoreOptions = {}): InProcessXenstore {
  return createXenstore({ controlExtensions: true, ...options });
}

/** A node that domain 5 may write below. */
async function giveHome(tools: XenstoreClient): Promise<void> {
  await tools.mkdir('/local/domain/5');
  await tools.setPermissions('/local/domain/5', [{ domid: 5, access: 'n' }]);
}

describe('statistics', () => {
  it('count requests by operation, errors by code, and events', async () => {
    const xenstore = observed();
    const client = xenstore.connect(DOM0);
    await client.write('/a', '1');
    await client.write('/a', '2');
    await client.read('/a');
    await expect(client.read('/none')).rejects.toMatchObject({ code: 'ENOENT' });
    await client.watch('/a');
    const { requests, errors, requestCount, eventCount, profile } = xenstore.daemonStatistics();
    expect(requests).toEqual({ WRITE: 2, READ: 2, WATCH: 1 });
    expect(errors).toEqual({ ENOENT: 1 });
    expect({ requestCount, eventCount, profile }).toEqual({
      requestCount: 5,
      eventCount: 1,
      profile: 'c-4.17',
    });
    xenstore.close();
  });

  it('show each connection with what it holds and what it waits for', async () => {
    const xenstore = observed();
    const tools = xenstore.connect(DOM0);
    const guest = xenstore.connect(DOM5);
    await giveHome(tools);
    await guest.watch('x');
    await guest.transaction(async (tx) => {
      await tx.exists('x');
      const { connections, transactionCount } = xenstore.daemonStatistics();
      expect(transactionCount).toBe(1);
      expect(connections).toMatchObject([
        { id: 1, domid: 0, kind: 'memory', privileged: true, watchCount: 0, transactionCount: 0 },
        { id: 2, domid: 5, kind: 'memory', privileged: false, watchCount: 1, transactionCount: 1 },
      ]);
    });
    expect(xenstore.daemonStatistics().connections[1]!.waitsFor).toBeUndefined();
    xenstore.close();
  });

  it.each([...XENSTORE_PROFILES.values()])(
    '$name: name the quota that fired, and for whom',
    async (profile) => {
      const xenstore = observed({ profile, quotas: { nodes: 3, watches: 2, transactions: 1 } });
      const tools = xenstore.connect(DOM0);
      const guest = xenstore.connect(DOM5);
      await giveHome(tools);
      const refused = async (attempt: (index: number) => Promise<unknown>): Promise<number> => {
        for (let index = 0; ; index++) {
          try {
            await attempt(index);
          } catch {
            return index;
          }
          if (index > 10) throw new Error('nothing was refused');
        }
      };
      await refused((index) => guest.mkdir(`/local/domain/5/n${index}`));
      await refused((index) => guest.watch(`/w${index}`));
      const { quotas } = xenstore.daemonStatistics();
      expect(quotas).toContainEqual(
        expect.objectContaining({
          quota: 'nodes',
          domid: 5,
          count: 1,
          last: expect.stringContaining('/local/domain/5/n'),
        }),
      );
      expect(quotas).toContainEqual(expect.objectContaining({ quota: 'watches', domid: 5, count: 1 }));
      xenstore.close();
    },
  );

  it.each([...XENSTORE_PROFILES.values()])(
    '$name: name the node over which a transaction failed, its writer and the loser',
    async (profile) => {
      const xenstore = observed({ profile });
      const tools = xenstore.connect(DOM0);
      const other = xenstore.connect(DOM0);
      await tools.write('/a/b', '1');
      await tools.write('/a/c', '1');
      await expect(
        tools.transaction(
          async (tx) => {
            await tx.read('/a/b');
            await other.write('/a/b', '2');
            await tx.write('/a/c', '2');
          },
          { retries: 0 },
        ),
      ).rejects.toMatchObject({ code: 'EAGAIN' });
      expect(xenstore.daemonStatistics().conflicts).toEqual([
        { path: '/a/b', count: 1, writerId: 2, writerDomid: 0, loserId: 1, loserDomid: 0 },
      ]);
      xenstore.close();
    },
  );

  it('know the writer of a node within a removed tree, and of one changed by another transaction', async () => {
    const xenstore = observed();
    const tools = xenstore.connect(DOM0);
    const other = xenstore.connect(DOM0);
    await tools.write('/a/b/c', '1');
    await tools.write('/d', '1');
    const losing = (path: string, change: () => Promise<unknown>): Promise<unknown> =>
      tools
        .transaction(
          async (tx) => {
            await tx.read(path);
            await change();
          },
          { retries: 0 },
        )
        .catch(() => undefined);
    await losing('/a/b/c', () => other.rm('/a'));
    await losing('/d', () => other.transaction((tx) => tx.write('/d', '2')));
    expect(xenstore.daemonStatistics().conflicts).toMatchObject([
      { path: '/a/b/c', writerId: 2 },
      { path: '/d', writerId: 2 },
    ]);
    xenstore.close();
  });

  it('show the changes that most watches heard of', async () => {
    const xenstore = observed();
    const tools = xenstore.connect(DOM0);
    for (let i = 0; i < 20; i++) await tools.watch('/w', undefined, { token: `t${i}` });
    for (let i = 0; i < 3; i++) await tools.write('/w/x', String(i));
    await tools.write('/elsewhere', '');
    expect(xenstore.daemonStatistics().fanOut).toEqual([{ path: '/w/x', changeCount: 3, eventCount: 60 }]);
    xenstore.close();
  });

  it('hold a bounded number of causes, the frequent ones', () => {
    const tally = new Tally<{ key: string; count: number }>(10);
    for (let i = 0; i < 1000; i++) {
      const frequent = tally.get('often');
      if (frequent === undefined) tally.add('often', { key: 'often', count: 1 });
      else frequent.count += 1;
      tally.add(`once-${i}`, { key: `once-${i}`, count: 1 });
    }
    expect(tally.top(1)).toEqual([{ key: 'often', count: 1000 }]);
    expect(tally.top(100).length).toBeLessThan(20);
    expect(tally.get('once-999')).toBeDefined();
    expect(tally.get('once-0')).toBeUndefined();
  });
});

describe('CONTROL statistics', () => {
  it('arrives whole, however many replies it takes', async () => {
    const xenstore = observed();
    const clients = Array.from({ length: 100 }, () => xenstore.connect(DOM0));
    await clients[99]!.write('/u', '');
    const said = await readStatistics(clients[0]!);
    expect(said.connections).toHaveLength(100);
    expect(JSON.stringify(said).length).toBeGreaterThan(2 * 4096);
    expect(said.requests).toEqual({ WRITE: 1, CONTROL: 1 });
    expect((await readStatistics(clients[1]!)).requests['CONTROL']).toBeGreaterThan(3);
    xenstore.close();
  });

  it('is one snapshot: others may ask in between; a forgotten one is EAGAIN', async () => {
    const xenstore = observed();
    const client = xenstore.connect(DOM0);
    const [generation] = await client.controlStrings('statistics');
    const read = (offset: string): Promise<string[]> =>
      client.controlStrings('statistics', generation!, offset);
    await client.write('/a', '');
    expect((await read('0'))[1]).toContain('"CONTROL":1');
    for (let i = 0; i < 4; i++) await client.controlStrings('statistics');
    await expect(read('0')).rejects.toMatchObject({ code: 'EAGAIN' });
    await expect(client.controlStrings('statistics', 'x', '0')).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(client.controlStrings('statistics', '1')).rejects.toMatchObject({ code: 'EINVAL' });
    xenstore.close();
  });

  it('is not there unless enabled, as in real daemons', async () => {
    const xenstore = createXenstore();
    const client = xenstore.connect(DOM0);
    await expect(client.control('statistics')).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(readStatistics(client)).rejects.toMatchObject({ code: 'EINVAL' });
    const ox = createXenstore({ profile: PROFILE_OXENSTORED });
    await expect(readStatistics(ox.connect(DOM0))).rejects.toMatchObject({ code: 'EIO' });
    ox.close();
    xenstore.close();
  });

  it('XS_CONTROL is for privileged connections', async () => {
    const xenstore = observed();
    await expect(readStatistics(xenstore.connect(DOM5))).rejects.toMatchObject({ code: 'EACCES' });
    expect(xenstore.daemonStatistics().errors).toEqual({ EACCES: 1 });
    xenstore.close();
  });

  it('a daemon that says nonsense is told from one that has statistics', async () => {
    const [end] = memoryStreamPair();
    const client = new XenstoreClient(end);
    const answering = (answers: string[][]): Parameters<typeof readStatistics>[0] => ({
      controlStrings: () => Promise.resolve(answers.shift() ?? []),
    });
    await expect(readStatistics(answering([['OK']]))).rejects.toMatchObject({ code: 'EIO' });
    await expect(
      readStatistics(
        answering([
          ['1', '{'],
          ['1', ''],
        ]),
      ),
    ).rejects.toMatchObject({ code: 'EIO' });
    client.close();
  });
});
