import { closeSync, openSync } from 'node:fs';
import { type SharedMapping, mapShared } from '@virtlab/linux';
import {
  type RealDomain,
  type RealXenstored,
  type RealXenstoredKind,
  startRealXenstored,
} from '@virtlab/xen-preload';
import type { RingClient } from '@virtlab/xenstore';
import type { DomainEnd, RunningDaemon, Subject } from './subject.ts';
import { domainEnd } from './virtlab-daemon.ts';
import { connectSocket } from './virtlab-socket.ts';

const PAGE_SIZE = 4096;
/** `conflict-max-history-seconds` of the configuration that Xen ships. */
const OX_TICK_MS = 50;

/** A daemon of Xen: Debian's, or `program`. */
export function realSubject(kind: RealXenstoredKind, program?: string): Subject {
  return {
    name: program ?? (kind === 'c' ? 'C xenstored' : 'oxenstored'),
    start: async () => {
      const daemon = await startRealXenstored({ kind, ...(program === undefined ? {} : { program }) });
      return runningDaemon(daemon, kind === 'oxenstored' ? { conflictTickMs: OX_TICK_MS } : {});
    },
  };
}

function runningDaemon(daemon: RealXenstored, more: Pick<RunningDaemon, 'conflictTickMs'>): RunningDaemon {
  const mappings: SharedMapping[] = [];
  return {
    ...more,
    get messages() {
      return daemon.messages;
    },
    connectSocket: () => connectSocket(daemon.socketPath),
    createDomain: async (domid) => {
      const domain = await daemon.createDomain(domid);
      const mapping = mapRing(domain);
      mappings.push(mapping);
      return ringEnd(domain, mapping);
    },
    shutdownDomain: (domid) => daemon.shutdownDomain(domid),
    destroyDomain: (domid) => daemon.destroyDomain(domid),
    close: async () => {
      await daemon.close();
      for (const mapping of mappings) mapping.revoke();
    },
  };
}

function mapRing(domain: RealDomain): SharedMapping {
  const fd = openSync(domain.ringPath, 'r+');
  try {
    return mapShared(fd, PAGE_SIZE, { allowShrink: true });
  } finally {
    closeSync(fd);
  }
}

function ringEnd(domain: RealDomain, { buffer }: SharedMapping): DomainEnd {
  const page = { u8: new Uint8Array(buffer), u32: new Uint32Array(buffer), byteOffset: 0 };
  let current: RingClient | undefined;
  domain.listen(() => current?.onEvent());
  return domainEnd(page, { gfn: domain.gfn, port: domain.port }, (client) => {
    current = client;
    return () => domain.kick();
  });
}
