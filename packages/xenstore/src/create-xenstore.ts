import type { DomId } from '@virtlab/abi/brands';
import { type DaemonOptions, assembleDaemon } from './assemble-daemon.ts';
import { XenstoreClient } from './client.ts';
import type { DaemonStatistics } from './daemon-statistics.ts';
import { isUnprivilegedDomain } from './domain-table.ts';
import type { FaultInjector } from './fault-injector.ts';
import { type MemoryStreamOptions, memoryStreamPair } from './memory-stream.ts';
import type { XenstoreServer, XenstoreStatistics } from './server.ts';
import type { XenstoreStore } from './store.ts';

export interface CreateXenstoreOptions extends DaemonOptions, MemoryStreamOptions {}

export interface ConnectOptions {
  /** Default: only domain 0. */
  readonly privileged?: boolean;
}

/** A whole xenstored within this thread. */
export interface InProcessXenstore {
  readonly store: XenstoreStore;
  readonly server: XenstoreServer;
  /** What goes wrong on purpose; may be changed while running. */
  readonly faults: FaultInjector;
  /** A client of that domain over a stream in memory. */
  connect(domid: DomId, options?: ConnectOptions): XenstoreClient;
  /** The domain is gone: see `XenstoreServer.releaseDomain`. */
  releaseDomain(domid: DomId): void;
  statistics(): XenstoreStatistics;
  /** Everything that is counted: what CONTROL `statistics` answers. */
  daemonStatistics(): DaemonStatistics;
  /** Throws, naming each, if any connection still holds a watch or a transaction. */
  assertQuiescent(): void;
  /** Ends all connections. */
  close(): void;
}

/** Store, server and clients in one thread; deterministic with the `schedule` of the caller. */
export function createXenstore(options: CreateXenstoreOptions = {}): InProcessXenstore {
  const { store, server, faults } = assembleDaemon(options);
  return {
    store,
    server,
    faults,
    connect: (domid, { privileged = !isUnprivilegedDomain(domid) } = {}) => {
      const [clientEnd, serverEnd] = memoryStreamPair(options);
      server.accept(serverEnd, { domid, privileged });
      return new XenstoreClient(clientEnd);
    },
    releaseDomain: (domid) => server.releaseDomain(domid),
    statistics: () => server.statistics(),
    daemonStatistics: () => server.daemonStatistics(),
    assertQuiescent: () => server.assertQuiescent(),
    close: () => server.close(),
  };
}
