import { describe, expect, it } from 'vitest';
import type { DaemonClock } from './daemon-clock.ts';
import { oxRead } from './ox-operations.ts';
import { PROFILE_OXENSTORED } from './profile-oxenstored.ts';
import type { XenstoreQuotas } from './profile.ts';
import { type StoreConnection, type Transaction, XenstoreStore } from './store.ts';

/** A clock that stands still until it is told. */
class HandClock implements DaemonClock {
  #time = 1000;
  #waiting: { readonly at: number; readonly run: () => void }[] = [];

  now(): number {
    return this.#time;
  }

  after(delayMs: number, run: () => void): () => void {
    const entry = { at: this.#time + delayMs, run };
    this.#waiting.push(entry);
    return () => void (this.#waiting = this.#waiting.filter((other) => other !== entry));
  }

  pass(delayMs: number): void {
    this.#time += delayMs;
    const due = this.#waiting.filter(({ at }) => at <= this.#time);
    this.#waiting = this.#waiting.filter(({ at }) => at > this.#time);
    for (const { run } of due) run();
  }
}

class Bench {
  readonly clock = new HandClock();
  readonly store: XenstoreStore;
  readonly events: string[] = [];

  constructor(quotas: Partial<XenstoreQuotas> = {}) {
    this.store = new XenstoreStore({ profile: PROFILE_OXENSTORED, quotas, clock: this.clock });
  }

  open(domid: number): StoreConnection {
    return this.store.openConnection({ domid, privileged: domid === 0 }, (path, token) => {
      this.events.push(`${domid}: ${path} ${token}`);
    });
  }

  start(connection: StoreConnection): Transaction {
    const started = this.store.startTransaction(connection);
    if (typeof started === 'string') throw new Error(started);
    return started;
  }

  write(
    connection: StoreConnection,
    path: string,
    value = '',
    transaction?: Transaction,
  ): string | undefined {
    return this.store.write({ connection, transaction }, path, value);
  }

  read(connection: StoreConnection, path: string, transaction?: Transaction): string {
    const node = this.store.find({ connection, transaction }, path, 1);
    return typeof node === 'string' ? `!${node}` : node.value;
  }

  end(connection: StoreConnection, transaction: Transaction): string | undefined {
    return this.store.endTransaction({ connection, transaction }, transaction, true);
  }
}

describe('Store.write, Store.mkdir', () => {
  it('Quota.check: the owner of the parent pays, domain 0 does not, and what was made stays', () => {
    const bench = new Bench({ nodes: 3 });
    const [host, guest] = [bench.open(0), bench.open(5)];
    bench.write(host, '/home');
    expect(
      bench.store.setPermissions({ connection: host, transaction: undefined }, '/home', ['n5']),
    ).toBeUndefined();
    expect(bench.write(guest, '/home/a/b/c')).toBe('EQUOTA');
    expect(bench.read(guest, '/home/a/b')).toBe('');
    expect(bench.write(guest, '/home/a', 'again')).toBeUndefined();
    expect(bench.write(host, '/home/d')).toBeUndefined();
    expect(bench.store.domain(5)?.nodeCount).toBe(4);
    expect(bench.store.rm({ connection: guest, transaction: undefined }, '/home/a')).toBeUndefined();
    expect(bench.store.domain(5)?.nodeCount).toBe(2);
    expect(bench.store.nodeCount).toBe(8);
    expect(bench.store.verify()).toEqual([]);
  });

  it('Perms.has: the owner, the first entry for the domain or its target, else the default', () => {
    const bench = new Bench();
    const [host, guest, other] = [bench.open(0), bench.open(5), bench.open(6)];
    bench.write(host, '/p', '1');
    const context = { connection: host, transaction: undefined };
    bench.store.setPermissions(context, '/p', ['n7', 'n5', 'r5', 'w6']);
    expect(bench.read(guest, '/p')).toBe('!EACCES');
    expect(bench.read(other, '/p')).toBe('!EACCES');
    bench.store.domains.setTarget(6, 7);
    expect(bench.read(other, '/p')).toBe('1');
    expect(bench.write(other, '/p', '2')).toBeUndefined();
    bench.store.domains.setTarget(5, 0);
    expect(bench.write(guest, '/p', '3')).toBeUndefined();
  });
});

describe('transactions', () => {
  it('check_quota_exn: a transaction that had all its requests cannot even be ended', () => {
    const bench = new Bench({ transactionRequests: 2 });
    const guest = bench.open(5);
    const view = bench.store.oxenstored!.viewOf(bench.start(guest));
    expect(bench.store.oxenstored!.exceedsRequests(guest, view)).toBe(false);
    view.requestCount = 2;
    expect(bench.store.oxenstored!.exceedsRequests(guest, view)).toBe(true);
    view.requestCount = 0;
    expect(bench.store.oxenstored!.exceedsRequests(guest, view)).toBe(true);
    expect(bench.store.oxenstored!.exceedsRequests(bench.open(0), view)).toBe(false);
  });

  it('test_coalesce: a value written again unchanged is no change, but a new node beside what was listed is', () => {
    const bench = new Bench();
    const host = bench.open(0);
    bench.write(host, '/d/x', '1');
    const same = bench.start(host);
    expect(bench.read(host, '/d/x', same)).toBe('1');
    bench.write(host, '/e', '', same);
    bench.write(host, '/d/x', '1');
    expect(bench.end(host, same)).toBeUndefined();
    const listing = bench.start(host);
    expect(bench.read(host, '/d', listing)).toBe('');
    bench.write(host, '/f', '', listing);
    bench.write(host, '/d/y', '1');
    expect(bench.end(host, listing)).toBe('EAGAIN');
  });

  it('response_equal: what is done again depends on the reply, so on the value after a READ, on all of it after `find`', () => {
    const bench = new Bench();
    const host = bench.open(0);
    const afterRead = bench.start(host);
    const context = { connection: host, transaction: afterRead };
    bench.store.oxenstored!.perform(context, oxRead([]), false);
    bench.write(host, '/', '', afterRead);
    const afterFind = bench.start(host);
    bench.read(host, '/', afterFind);
    bench.write(host, '/', '', afterFind);
    bench.write(host, '/child');
    expect(bench.end(host, afterRead)).toBeUndefined();
    expect(bench.end(host, afterFind)).toBe('EAGAIN');
  });

  it('is_read_only: a transaction that changed nothing never fails', () => {
    const bench = new Bench();
    const host = bench.open(0);
    bench.write(host, '/x', '1');
    const transaction = bench.start(host);
    bench.read(host, '/x', transaction);
    bench.write(host, '/x', '2');
    expect(bench.end(host, transaction)).toBeUndefined();
  });
});

describe('Domains.cleanup', () => {
  it('for as long as a domain is down, whatever happens to any other fires @releaseDomain', () => {
    const bench = new Bench();
    bench.store.watch(bench.open(0), '@releaseDomain', 't');
    const heard = (happen: () => void): number => {
      const before = bench.events.length;
      happen();
      return bench.events.length - before;
    };
    bench.store.domains.introduce(5);
    expect(heard(() => bench.store.domains.shutdown(6))).toBe(0);
    expect(heard(() => bench.store.domains.shutdown(5))).toBe(1);
    expect(heard(() => bench.store.domains.shutdown(6))).toBe(1);
    expect(heard(() => bench.store.domains.release(6))).toBe(1);
    bench.store.domains.resume(5);
    expect(heard(() => bench.store.domains.shutdown(6))).toBe(0);
  });
});

describe('conflict credit', () => {
  /** Makes domain 0 lose a transaction to the guest. */
  function lose(bench: Bench, host: StoreConnection, guest: StoreConnection): void {
    const transaction = bench.start(host);
    const before = bench.read(host, '/c', transaction);
    bench.write(host, '/d', before, transaction);
    bench.write(guest, '/c', `${before}+`);
    expect(bench.end(host, transaction)).toBe('EAGAIN');
  }

  function prepare(): { bench: Bench; host: StoreConnection; guest: StoreConnection } {
    const bench = new Bench();
    const [host, guest] = [bench.open(0), bench.open(5)];
    bench.write(host, '/c');
    bench.store.setPermissions({ connection: host, transaction: undefined }, '/c', ['b0']);
    return { bench, host, guest };
  }

  it('decr_conflict_credit: the fifth conflict pauses the domain that caused them, a tick frees it', () => {
    const { bench, host, guest } = prepare();
    const engine = bench.store.oxenstored!;
    let creditCount = 0;
    engine.onCredit = () => void (creditCount += 1);
    for (let i = 0; i < 4; i++) lose(bench, host, guest);
    expect(engine.isPaused(guest)).toBe(false);
    lose(bench, host, guest);
    expect(engine.isPaused(guest)).toBe(true);
    expect(engine.isPaused(host)).toBe(false);
    bench.clock.pass(50);
    expect(engine.isPaused(guest)).toBe(false);
    expect(creditCount).toBe(1);
    lose(bench, host, guest);
    expect(engine.isPaused(guest)).toBe(true);
  });

  it('trim_short_running_transactions: who conflicts with a transaction older than 50 ms pays nothing', () => {
    const { bench, host, guest } = prepare();
    for (let i = 0; i < 8; i++) {
      const transaction = bench.start(host);
      bench.write(host, '/d', bench.read(host, '/c', transaction), transaction);
      bench.clock.pass(60);
      bench.store.endTransaction({ connection: host, transaction: undefined }, bench.start(host), false);
      bench.write(guest, '/c', String(i));
      expect(bench.end(host, transaction)).toBe('EAGAIN');
    }
    expect(bench.store.oxenstored!.isPaused(guest)).toBe(false);
  });
});

describe('BoundedPipe', () => {
  it('maxwatchevents: as many wait on the connection, as many on the watch; the rest stops who causes them', () => {
    const bench = new Bench({ watchEvents: 3 });
    const host = bench.open(0);
    const taken: string[] = [];
    let room = 3;
    const listener = bench.store.openConnection({ domid: 0, privileged: true }, (path) => {
      room -= 1;
      taken.push(path);
    });
    listener.hasEventRoom = () => room > 0;
    const watch = bench.store.watch(listener, '/w', 't');
    if (typeof watch === 'string') throw new Error(watch);
    for (let i = 0; i < 8; i++) bench.write(host, `/w/${i}`);
    expect(taken).toEqual(['/w/0', '/w/1', '/w/2']);
    expect(host.heldEventCount).toBe(2);
    room = 4;
    listener.onEventRoom?.();
    expect(taken.slice(3)).toEqual(['/w/3', '/w/4', '/w/5', '/w/6']);
    expect(host.heldEventCount).toBe(0);
    room = 10;
    listener.onEventRoom?.();
    expect(taken).toHaveLength(7); // the last one waits on the watch until the next change
    bench.write(host, '/w/8');
    expect(taken.slice(7)).toEqual(['/w/7', '/w/8']);
  });

  it('del_watches: what waits for a connection that is gone is dropped', () => {
    const bench = new Bench({ watchEvents: 1 });
    const [host, listener] = [bench.open(0), bench.open(0)];
    listener.hasEventRoom = () => false;
    bench.store.watch(listener, '/w', 't');
    for (let i = 0; i < 4; i++) bench.write(host, '/w');
    expect(host.heldEventCount).toBe(3);
    bench.store.closeConnection(listener);
    listener.onEventRoom?.();
    expect(host.heldEventCount).toBe(0);
    expect(bench.store.watchCount).toBe(0);
  });
});
