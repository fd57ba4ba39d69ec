import type { DomId } from '@virtlab/abi/brands';
import { XenstoreClient } from './client.ts';
import { isUnprivilegedDomain } from './domain-table.ts';
import { type MemoryStreamOptions, memoryStreamPair } from './memory-stream.ts';
import { XenstoreServer, type XenstoreServerOptions, type XenstoreStatistics } from './server.ts';
import { type StoreOptions, XenstoreStore } from './store.ts';

export interface CreateXenstoreOptions
  extends StoreOptions, Omit<XenstoreServerOptions, 'store'>, MemoryStreamOptions {}

export interface ConnectOptions {
  /** Default: only domain 0. */
  readonly privileged?: boolean;
}

/** A whole xenstored within this thread. */
export interface InProcessXenstore {
  readonly store: XenstoreStore;
  readonly server: XenstoreServer;
  /** A client of that domain over a stream in memory. */
  connect(domid: DomId, options?: ConnectOptions): XenstoreClient;
  /** The domain is gone: see `XenstoreServer.releaseDomain`. */
  releaseDomain(domid: DomId): void;
  statistics(): XenstoreStatistics;
  /** Throws, naming each, if any connection still holds a watch or a transaction. */
  assertQuiescent(): void;
  /** Ends all connections. */
  close(): void;
}

/** Store, server and clients in one thread; deterministic with the `schedule` of the caller. */
export function createXenstore(options: CreateXenstoreOptions = {}): InProcessXenstore {
  const store = new XenstoreStore(options);
  const server = new XenstoreServer({ ...options, store });
  return {
    store,
    server,
    connect: (domid, { privileged = !isUnprivilegedDomain(domid) } = {}) => {
      const [clientEnd, serverEnd] = memoryStreamPair(options);
      server.accept(serverEnd, { domid, privileged });
      return new XenstoreClient(clientEnd);
    },
    releaseDomain: (domid) => server.releaseDomain(domid),
    statistics: () => server.statistics(),
    assertQuiescent: () => server.assertQuiescent(),
    close: () => server.close(),
  };
}
