import { XS_READ, XS_WRITE } from '@virtlab/abi/xs-wire';
import { describe, expect, it } from 'vitest';
import type { ByteStreamHandler } from './contract.ts';
import { XENSTORE_PROFILES } from './profiles.ts';
import { XenstoreServer } from './server.ts';
import { type StoreConnection, type Transaction, XenstoreStore } from './store.ts';
import { workOf } from './testing/work-counter.ts';
import { encodePacket } from './wire.ts';

const SMALL = 10;
const LARGE = 5000;
const PROFILES = [...XENSTORE_PROFILES.values()];

interface Bench {
  readonly store: XenstoreStore;
  readonly tools: StoreConnection;
  write(path: string, transaction?: Transaction): void;
}

describe.each(PROFILES)('profile $name: what an operation looks at', (profile) => {
  /** A store with `nodeCount` nodes in `/many`, and `/a/b/c/d` to work on. */
  function bench(nodeCount: number): Bench {
    const store = new XenstoreStore({ profile });
    const tools = store.openConnection({ domid: 0, privileged: true }, () => undefined);
    const write = (path: string, transaction?: Transaction): void => {
      expect(store.write({ connection: tools, transaction }, path, 'x')).toBe(undefined);
    };
    for (let i = 0; i < nodeCount; i++) write(`/many/${i}`);
    write('/a/b/c/d');
    return { store, tools, write };
  }

  function start({ store, tools }: Bench): Transaction {
    const transaction = store.startTransaction(tools);
    if (typeof transaction === 'string') throw new Error(transaction);
    return transaction;
  }

  /** Work in a small store and in a large one. */
  function bySize(measure: (nodeCount: number) => number): {
    readonly small: number;
    readonly large: number;
  } {
    return { small: measure(SMALL), large: measure(LARGE) };
  }

  it('a transaction starts without looking at the store, and is ended unused as cheaply', () => {
    const { small, large } = bySize((nodeCount) => {
      const each = bench(nodeCount);
      return workOf(() => {
        const context = { connection: each.tools, transaction: undefined };
        expect(each.store.endTransaction(context, start(each), true)).toBe(undefined);
      });
    });
    expect(large).toBe(small);
  });

  it('reading, writing, creating and removing a node look at its path, not at the store', () => {
    const { small, large } = bySize((nodeCount) => {
      const { store, tools, write } = bench(nodeCount);
      const context = { connection: tools, transaction: undefined };
      return workOf(() => {
        expect(store.find(context, '/a/b/c/d', 1)).toMatchObject({ value: 'x' });
        write('/a/b/c/d');
        write('/a/b/c/new/node');
        expect(store.rm(context, '/a/b/c/new')).toBe(undefined);
      });
    });
    expect(large).toBe(small);
  });

  it('a change beside many siblings costs what it costs beside few', () => {
    const { small, large } = bySize((nodeCount) => {
      const { store, tools, write } = bench(nodeCount);
      return workOf(() => {
        write('/many/new');
        expect(store.rm({ connection: tools, transaction: undefined }, '/many/new')).toBe(undefined);
      });
    });
    expect(large).toBe(small);
  });

  it('a commit looks at the nodes that the transaction touched', () => {
    const { small, large } = bySize((nodeCount) => {
      const each = bench(nodeCount);
      const transaction = start(each);
      each.write('/a/b/c/d', transaction);
      const context = { connection: each.tools, transaction };
      return workOf(() => expect(each.store.endTransaction(context, transaction, true)).toBe(undefined));
    });
    expect(large).toBe(small);
  });

  it('a deeper node costs the same more for each level', () => {
    const { write } = bench(SMALL);
    const depths = [4, 8, 12].map((depth) => `/${'x/'.repeat(depth)}end`);
    for (const path of depths) write(path);
    const [first, second, third] = depths.map((path) => workOf(() => write(path)));
    expect(third! - second!).toBe(second! - first!);
  });

  it('a write costs the watches that hear of it, and none of the others', () => {
    const measure = (otherCount: number, matchCount: number): number => {
      const { store, tools, write } = bench(SMALL);
      const listener = store.openConnection({ domid: 0, privileged: true }, () => undefined);
      for (let i = 0; i < otherCount; i++) store.watch(listener, `/elsewhere/${i}/below`, 't');
      for (let i = 0; i < otherCount; i++) store.watch(tools, `/a/b/beside-${i}`, 't');
      for (let i = 0; i < matchCount; i++) store.watch(listener, i % 2 === 0 ? '/a/b/c/d' : '/a', `t${i}`);
      return workOf(() => write('/a/b/c/d'));
    };
    expect(measure(LARGE, 2)).toBe(measure(SMALL, 2));
    const [two, twenty, hundred] = [2, 20, 100].map((count) => measure(SMALL, count));
    expect((hundred! - twenty!) / 80).toBeCloseTo((twenty! - two!) / 18, 5);
  });

  // C HEAD takes the domain's permissions away everywhere, for which it walks through the tree (`domain_tree_remove`).
  const visitsAll = profile.deadPermissions === 'removed';
  it.skipIf(visitsAll)('the death of a domain costs what it had, not what there is', () => {
    const { small, large } = bySize((nodeCount) => {
      const { store, tools, write } = bench(nodeCount);
      const context = { connection: tools, transaction: undefined };
      for (const domid of [5, 6]) {
        store.domains.introduce(domid);
        write(`/guests/${domid}`);
        store.setPermissions(context, `/guests/${domid}`, [`n${domid}`]);
      }
      return workOf(() => store.domains.release(5));
    });
    expect(large).toBe(small);
  });

  it('the end of a connection costs what it held, not what others hold', () => {
    const { small, large } = bySize((watchCount) => {
      const { store, tools } = bench(SMALL);
      const leaving = store.openConnection({ domid: 0, privileged: true }, () => undefined);
      for (let i = 0; i < watchCount; i++) store.watch(tools, `/many/${i}`, 't');
      for (let i = 0; i < SMALL; i++) store.watch(leaving, `/many/${i}`, 't');
      return workOf(() => store.closeConnection(leaving));
    });
    expect(large).toBe(small);
  });
});

describe('XenstoreServer: what a request looks at', () => {
  it('idle connections cost a request nothing', () => {
    const measure = (connectionCount: number): number => {
      const server = new XenstoreServer({ store: new XenstoreStore() });
      const handlers: ByteStreamHandler[] = [];
      for (let i = 0; i < connectionCount; i++) {
        const stream = {
          attach: (handler: ByteStreamHandler) => void handlers.push(handler),
          send: (bytes: Uint8Array) => bytes.length,
          pause: () => undefined,
          resume: () => undefined,
          close: () => undefined,
        };
        server.accept(stream, { domid: 0, privileged: true });
      }
      const requests = [encodePacket(XS_WRITE, 1, 0, '/a/b\0x'), encodePacket(XS_READ, 2, 0, '/a/b\0')];
      for (const request of requests) handlers[0]!.onData(request);
      return workOf(() => {
        for (const request of requests) handlers[0]!.onData(request);
      });
    };
    expect(measure(1000)).toBe(measure(2));
  });
});
