import { describe, expect, it } from 'vitest';
import { XS_PERM_NONE, XS_PERM_READ } from './permissions.ts';
import { PROFILE_C_HEAD } from './profile-c-head.ts';
import { type StoreConnection, XenstoreStore, type StoreOptions } from './store.ts';
import { WatchIndex } from './watch-index.ts';

interface Bench {
  readonly store: XenstoreStore;
  readonly dom0: { readonly connection: StoreConnection; readonly transaction: undefined };
  readonly events: string[];
}

function open(options?: StoreOptions): Bench {
  const store = new XenstoreStore(options);
  const events: string[] = [];
  const connection = store.openConnection({ domid: 0, privileged: true }, (path, token) => {
    events.push(`${token}:${path}`);
  });
  return { store, dom0: { connection, transaction: undefined }, events };
}

describe('XenstoreStore', () => {
  it('domain_adjust_node_perms: a later domain of the same id inherits no permissions', () => {
    const { store, dom0 } = open();
    const read = (): unknown => {
      const connection = store.openConnection({ domid: 5, privileged: false }, () => undefined);
      const found = store.find({ connection, transaction: undefined }, '/a', XS_PERM_READ);
      store.closeConnection(connection);
      return typeof found === 'string' ? found : found.value;
    };
    store.write(dom0, '/a', 'x');
    store.setPermissions(dom0, '/a', ['n0', 'r5']);
    expect(read()).toBe('x');
    store.write(dom0, '/b', 'x'); // a domain that comes in the same generation as the entry counts as the same
    store.domains.release(5);
    expect(read()).toBe('EACCES');
    store.write(dom0, '/a', 'y');
    expect(read()).toBe('EACCES');
    store.setPermissions(dom0, '/a', ['n0', 'r5']);
    expect(read()).toBe('y');
  });

  it('domain_alloc_permrefs: entries for unknown domains are kept without effect, owners must exist', () => {
    const { store, dom0 } = open({ domainExists: (domid) => domid < 3 });
    store.write(dom0, '/a', '');
    expect(store.setPermissions(dom0, '/a', ['n7'])).toBe('ENOENT');
    expect(store.setPermissions(dom0, '/a', ['n2', 'r7'])).toBeUndefined();
    const connection = store.openConnection({ domid: 7, privileged: false }, () => undefined);
    expect(store.find({ connection, transaction: undefined }, '/a', XS_PERM_READ)).toBe('EACCES');
  });

  it('domain_tree_remove: nodes of a dead domain go in tree order, with what others put below', () => {
    const { store, dom0, events } = open();
    for (const path of ['/z/own/deep', '/a/own/x/y', '/a/other', '/m']) store.write(dom0, path, '');
    for (const path of ['/z/own', '/z/own/deep', '/a/own', '/a/own/x/y', '/m']) {
      store.setPermissions(dom0, path, ['n5']);
    }
    store.watch(dom0.connection, '/', 'w');
    store.watch(dom0.connection, '/a/own/x', 'x');
    store.domains.release(5);
    expect(events).toEqual(['w:/z/own', 'x:/a/own/x', 'w:/a/own', 'w:/m']);
    expect(store.verify()).toEqual([]);
    expect(store.domain(5)).toBeUndefined();
    expect(store.nodeCount).toBe(6);
  });

  it('a dead domain that owned the root leaves it to domain 0', () => {
    const { store, dom0 } = open();
    store.setPermissions(dom0, '/', ['n5']);
    store.domains.release(5);
    expect(store.find(dom0, '/', XS_PERM_NONE)).toMatchObject({ permissions: [{ domid: 0 }] });
    expect(store.verify()).toEqual([]);
  });

  it('set_target: a domain has the rights of its target', () => {
    const { store, dom0 } = open();
    store.write(dom0, '/a', 'x');
    store.setPermissions(dom0, '/a', ['n6']);
    const connection = store.openConnection({ domid: 5, privileged: false }, () => undefined);
    const context = { connection, transaction: undefined };
    expect(store.find(context, '/a', XS_PERM_READ)).toBe('EACCES');
    store.domains.setTarget(5, 6);
    expect(store.find(context, '/a', XS_PERM_READ)).toMatchObject({ value: 'x' });
    store.domains.release(6);
    store.write(dom0, '/a', 'y');
    store.setPermissions(dom0, '/a', ['n6']);
    expect(store.find(context, '/a', XS_PERM_READ)).toBe('EACCES');
  });

  it('memory is charged to owners and writers, and given back', () => {
    const { store, dom0 } = open({ quotas: { memorySize: 5000 } });
    store.write(dom0, '/home', '');
    store.setPermissions(dom0, '/home', ['n5']);
    const connection = store.openConnection({ domid: 5, privileged: false }, () => undefined);
    const direct = { connection, transaction: undefined };
    const before = store.domain(5)!.memorySize;
    expect(store.write(direct, '/home/a', 'x'.repeat(1500))).toBeUndefined();
    const transaction = store.startTransaction(connection);
    if (typeof transaction === 'string') throw new Error(transaction);
    const inside = { connection, transaction };
    expect(store.write(inside, '/home/b', 'x'.repeat(1500))).toBeUndefined();
    expect(store.write(inside, '/home/c', 'x'.repeat(1900))).toBe('EIO');
    expect(store.endTransaction(inside, transaction, true)).toBe('ENOMEM');
    expect(store.write(direct, '/home/b', 'x'.repeat(1500))).toBeUndefined();
    expect(store.write(direct, '/home/c', 'x'.repeat(1900))).toBe('EIO');
    store.rm(direct, '/home/a');
    store.rm(direct, '/home/b');
    expect(store.domain(5)!.memorySize).toBe(before);
    expect(store.verify()).toEqual([]);
  });

  it('a transaction that began before a domain died cannot bring its nodes back', () => {
    const dead = new Set<number>();
    const { store, dom0 } = open({ domainExists: (domid) => !dead.has(domid) });
    store.write(dom0, '/a', '');
    const transaction = store.startTransaction(dom0.connection);
    if (typeof transaction === 'string') throw new Error(transaction);
    const inside = { connection: dom0.connection, transaction };
    expect(store.setPermissions(inside, '/a', ['n5'])).toBeUndefined();
    dead.add(5);
    store.domains.release(5);
    expect(store.endTransaction(inside, transaction, true)).toBe('ENOMEM');
    expect(store.domain(5)).toBeUndefined();
  });

  describe('c-head: an owner dies since the transaction captured its node, or gave it one', () => {
    function openHead() {
      const dead = new Set<number>();
      const domainExists = (domid: number): boolean => !dead.has(domid);
      const { store, dom0 } = open({ profile: PROFILE_C_HEAD, domainExists });
      store.write(dom0, '/a/k', '');
      const start = () => {
        const transaction = store.startTransaction(dom0.connection);
        if (typeof transaction === 'string') throw new Error(transaction);
        return { connection: dom0.connection, transaction };
      };
      const kill = (domid: number): void => {
        dead.add(domid);
        store.domains.release(domid);
      };
      return { store, dom0, start, kill };
    }

    it('domain_nbentry_inc, domain_nbentry_dec: ENOMEM to create below it or to give it away, EIO to remove it', () => {
      const { store, dom0, start, kill } = openHead();
      store.setPermissions(dom0, '/a', ['n5']);
      const inside = start();
      expect(store.find(inside, '/a', XS_PERM_READ)).toMatchObject({ value: '' });
      kill(5);
      expect(store.write(inside, '/a/b/c', '')).toBe('ENOMEM');
      expect(store.find(inside, '/a/b', XS_PERM_READ)).toBe('ENOENT');
      expect(store.setPermissions(inside, '/a', ['n0'])).toBe('ENOMEM');
      expect(store.rm(inside, '/a')).toBe('EIO');
      expect(store.endTransaction(inside, inside.transaction, true)).toBe('EAGAIN');
      expect(store.domain(5)).toBeUndefined();
      expect(store.verify()).toEqual([]);
    });

    it('finalize_transaction: the commit succeeds without the nodes of the dead domain', () => {
      const { store, dom0, start, kill } = openHead();
      const inside = start();
      expect(store.setPermissions(inside, '/a', ['n5'])).toBeUndefined();
      expect(store.write(inside, '/a/b/c', '')).toBeUndefined();
      expect(store.setPermissions(inside, '/a/b', ['n0'])).toBeUndefined();
      expect(store.write(inside, '/other', '1')).toBeUndefined();
      kill(5);
      expect(store.endTransaction(inside, inside.transaction, true)).toBeUndefined();
      expect(store.find(dom0, '/a', XS_PERM_READ)).toMatchObject({ permissions: [{ domid: 0 }] });
      expect(store.find(dom0, '/a/b', XS_PERM_READ)).toBe('ENOENT');
      expect(store.find(dom0, '/other', XS_PERM_READ)).toMatchObject({ value: '1' });
      expect(store.domain(5)).toBeUndefined();
      expect(store.verify()).toEqual([]);
    });

    it('check_store: a removal that failed at a dead owner’s node takes it and its name at the commit', () => {
      const { store, dom0, start, kill } = openHead();
      const inside = start();
      expect(store.setPermissions(inside, '/a', ['n5'])).toBeUndefined();
      kill(5);
      expect(store.rm(inside, '/a')).toBe('EIO');
      expect(store.find(inside, '/a', XS_PERM_READ)).toMatchObject({ value: '' });
      expect(store.endTransaction(inside, inside.transaction, true)).toBeUndefined();
      expect(store.find(dom0, '/a', XS_PERM_READ)).toBe('ENOENT');
      expect(store.verify()).toEqual([]);
    });
  });

  it('quota_trans_nodes: a guest’s transaction touches 1024 nodes, then fails', () => {
    const { store, dom0 } = open({ quotas: { transactionNodes: 3 } });
    store.write(dom0, '/p', '');
    store.setPermissions(dom0, '/p', ['b0']);
    const connection = store.openConnection({ domid: 5, privileged: false }, () => undefined);
    const transaction = store.startTransaction(connection);
    if (typeof transaction === 'string') throw new Error(transaction);
    const inside = { connection, transaction };
    expect(store.find(inside, '/p', XS_PERM_READ)).toMatchObject({ value: '' });
    expect(store.find(inside, '/p/x', XS_PERM_READ)).toBe('ENOENT');
    expect(store.find(inside, '/p/y', XS_PERM_READ)).toBe('ENOENT');
    expect(store.find(inside, '/p/z', XS_PERM_READ)).toBe('ENOSPC');
    expect(store.endTransaction(inside, transaction, true)).toBe('ENOMEM');
  });

  it('the cost of starting a transaction and of firing does not depend on the tree or on other watches', () => {
    const { store, dom0 } = open();
    for (let i = 0; i < 2000; i++) store.write(dom0, `/n/${i}`, '');
    for (let i = 0; i < 2000; i++) store.watch(dom0.connection, `/elsewhere/${i}`, 't');
    const transaction = store.startTransaction(dom0.connection);
    if (typeof transaction === 'string') throw new Error(transaction);
    expect(transaction.accessedCount).toBe(0);
    store.write({ connection: dom0.connection, transaction }, '/n/7', 'x');
    expect(transaction.accessedCount).toBe(1);
    store.write({ connection: dom0.connection, transaction }, '/n/new', 'x');
    expect(transaction.accessedCount).toBe(3);
    expect(store.endTransaction({ ...dom0, transaction }, transaction, true)).toBeUndefined();
    expect(store.verify()).toEqual([]);
  });
});

describe('WatchIndex', () => {
  it('matches by whole components and forgets completely', () => {
    const index = new WatchIndex<string>();
    const add = (path: string): void =>
      index.add({ owner: 'o', path, token: path, hiddenSize: 0, sequence: index.count });
    const match = (path: string, exact: boolean): string[] =>
      index.match(path, exact).map(({ token }) => token);
    for (const path of ['/', '/a', '/a/b', '/ab', '/a/b/c', '@releaseDomain']) add(path);
    expect(match('/a/b', false)).toEqual(['/', '/a', '/a/b']);
    expect(match('/a/b', true)).toEqual(['/a/b']);
    expect(match('/', false)).toEqual(['/']);
    expect(match('/abc', false)).toEqual(['/']);
    expect(match('@releaseDomain', true)).toEqual(['@releaseDomain']);
    for (const watch of [...index.match('/a/b/c', false), ...index.match('/ab', true)]) index.delete(watch);
    for (const watch of index.match('@releaseDomain', true)) index.delete(watch);
    expect(index.count).toBe(0);
    expect(match('/a/b/c', false)).toEqual([]);
  });
});
