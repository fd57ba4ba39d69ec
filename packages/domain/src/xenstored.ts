import type { DomId, EvtchnPort, GrantHandle } from '@virtlab/abi/brands';
import { VIRQ_DOM_EXC } from '@virtlab/abi/event-channel';
import type { AioContext } from '@virtlab/aio';
import { PAGE_SIZE } from '@virtlab/hypervisor';
import {
  type DaemonClock,
  type InProcessXenstore,
  type StoreOptions,
  type Xenstore,
  createXenstore,
} from '@virtlab/xenstore';
import type { PagePort, XenstoreRingPort } from '@virtlab/xenstore/server';
import type { Domain } from './domain.ts';
import { XENSTORE_GRANT } from './start-of-day.ts';

/** xenstored as a service of domain 0: its own client, and a ring for every domain that is introduced. */
export interface XenstoredService extends AsyncDisposable {
  readonly daemon: InProcessXenstore;
  /** Domain 0's own privileged connection. */
  readonly store: Xenstore;
}

export async function startXenstored(own: Domain, options: StoreOptions = {}): Promise<XenstoredService> {
  const introduced = new Set<DomId>();
  const daemon = createXenstore({
    clock: clockOf(own.aio),
    ...options,
    domains: {
      attach: async (domain, _gfn, _port, portOf) => {
        const ring = await attachRing(own, domain, portOf);
        if (ring !== undefined) introduced.add(domain);
        return ring ?? 'EINVAL';
      },
    },
  });
  const port = await own.events.bindVirq(VIRQ_DOM_EXC);
  own.keepPort(port);
  own.events.onEvent(port, () => void releaseDead());
  const store = daemon.connect(own.id, { privileged: true });

  /** VIRQ_DOM_EXC says only that some domain ended: find out which, as xenstored's domain_cleanup does. */
  async function releaseDead(): Promise<void> {
    const info = await own.connection.call('domain_info').catch(() => undefined);
    if (info === undefined) return; // this domain itself is ending
    const alive = new Set(info.map((each) => each.domain));
    for (const domain of [...introduced].filter((each) => !alive.has(each))) {
      introduced.delete(domain);
      daemon.server.releaseDomain(domain);
    }
  }

  return {
    daemon,
    store,
    [Symbol.asyncDispose]: async () => {
      store.close();
      daemon.server.close();
      await own.events.close(port);
    },
  };
}

/** The daemon's time is its domain's: in a simulation that is virtual. */
function clockOf(aio: AioContext): DaemonClock {
  return {
    now: () => aio.now(),
    after: (delayMs, run) => {
      const timer = aio.createTimer(() => {
        timer[Symbol.dispose]();
        run();
      });
      timer.arm(delayMs);
      return () => timer[Symbol.dispose]();
    },
  };
}

/** Maps the ring that the domain granted us under the reserved reference and binds to the port that counts. */
async function attachRing(
  own: Domain,
  domain: DomId,
  portOf: PagePort,
): Promise<XenstoreRingPort | undefined> {
  const foreign = await own.mapDomain(domain);
  const handle = own.grantMapper.map(domain, XENSTORE_GRANT, true);
  const { ram } = foreign.memory;
  if (handle < 0 || ram === undefined) return undefined;
  const page = { u8: ram.u8, u32: ram.u32, byteOffset: own.grantMapper.frame * PAGE_SIZE };
  const local = await bindOrUnmap(own, domain, portOf(page), handle as GrantHandle);
  if (local === undefined) return undefined;
  return {
    page,
    kick: () => void own.events.send(local),
    listen: (onEvent) => own.events.onEvent(local, onEvent),
    close: () => {
      own.grantMapper.unmap(handle as GrantHandle);
      own.events.close(local).catch(() => {}); // the domain's end closed it already
    },
  };
}

/** Undefined when the domain's port does not wait for us, or the domain died meanwhile: then nobody would release it. */
async function bindOrUnmap(
  own: Domain,
  domain: DomId,
  port: EvtchnPort,
  handle: GrantHandle,
): Promise<EvtchnPort | undefined> {
  const local = await own.events.bindInterdomain(domain, port).catch(() => undefined);
  if (local !== undefined && own.connection.foreign(domain, 'memory') !== undefined) return local;
  own.grantMapper.unmap(handle);
  if (local !== undefined) await own.events.close(local);
  return undefined;
}
