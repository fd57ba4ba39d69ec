import { XENSTORE_DOMAIN_INTERFACE } from '@virtlab/abi/xs-wire';
import {
  type ByteStream,
  type RingClient,
  type RingPage,
  type XenstoreAttachment,
  type XenstoreProfile,
  XenstoreServer,
  XenstoreStore,
  connectRing,
  memoryStreamPair,
} from '@virtlab/xenstore';
import type { DomId } from '@virtlab/abi/brands';
import type { DomainEnd, RunningDaemon, Subject } from './subject.ts';

const PAGE_SIZE = 4096;
const GFN = 1;

/** Our daemon in this process; sockets are streams in memory. `wrap` may change what the daemon's clients get. */
export function virtlabSubject(
  profile: XenstoreProfile,
  wrap: (stream: ByteStream) => ByteStream = (stream) => stream,
): Subject {
  return {
    name: `virtlab ${profile.name}`,
    start: () => {
      const { server, machine } = startServer(profile);
      return Promise.resolve({
        ...machine.face(),
        messages: '',
        connectSocket: () => {
          const [clientEnd, serverEnd] = memoryStreamPair();
          server.accept(serverEnd, { domid: 0, privileged: true });
          return Promise.resolve(wrap(clientEnd));
        },
        close: () => {
          server.close();
          return Promise.resolve();
        },
      });
    },
  };
}

/** A server of that profile with the machine around it, for subjects that connect to it in their own way. */
export function startServer(
  profile: XenstoreProfile,
  schedule?: (run: () => void) => void,
): { readonly server: XenstoreServer; readonly machine: MemoryMachine } {
  const machine = new MemoryMachine(profile.name === 'c-head');
  const store = new XenstoreStore({
    profile,
    domainExists: (domid) => machine.exists(domid),
    ...(machine.namesDomains ? {} : { domainIsDown: (domid: number) => machine.isDown(domid) }),
  });
  const server = new XenstoreServer({
    store,
    domains: { attach: (domid, _gfn, port) => machine.attach(domid, port) },
    control: { print: () => undefined, memoryReport: () => undefined },
    ...(schedule === undefined ? {} : { schedule }),
  });
  machine.server = server;
  return { server, machine };
}

interface MemoryDomain {
  readonly page: RingPage;
  readonly port: number;
  isDown: boolean;
  onServerEvent: (() => void) | undefined;
  client: RingClient | undefined;
}

/** Domains with their ring pages in this process's memory. */
class MemoryMachine {
  readonly #domains = new Map<number, MemoryDomain>();
  /** Whether the daemon is told which domain something happened to. */
  readonly namesDomains: boolean;
  server: XenstoreServer | undefined;

  /**
   * Older daemons look at every domain whenever Xen says that something happened, so one that is still down counts
   * again after RESUME; to newer ones Xen names the domain that changed, once.
   */
  constructor(namesDomains: boolean) {
    this.namesDomains = namesDomains;
  }

  exists(domid: number): boolean {
    return domid === 0 || this.#domains.has(domid);
  }

  isDown(domid: number): boolean {
    return this.#domains.get(domid)?.isDown === true;
  }

  /** The grant cannot be mapped without a domain; a port must be the one that it offers. */
  attach(domid: number, port: number): XenstoreAttachment {
    const domain = this.#domains.get(domid);
    if (domain === undefined || port !== domain.port) return 'EINVAL';
    return {
      page: domain.page,
      kick: () => queueMicrotask(() => domain.client?.onEvent()),
      listen: (onEvent) => {
        domain.onServerEvent = onEvent;
      },
      close: () => {
        domain.onServerEvent = undefined;
      },
    };
  }

  face(): Pick<RunningDaemon, 'createDomain' | 'shutdownDomain' | 'destroyDomain'> {
    return {
      createDomain: (domid) => Promise.resolve(this.#create(domid)),
      shutdownDomain: (domid) => {
        const domain = this.#domains.get(domid);
        if (domain === undefined || (domain.isDown && this.namesDomains)) return;
        domain.isDown = true;
        this.server?.shutdownDomain(domid as DomId);
      },
      destroyDomain: (domid) => {
        this.#domains.delete(domid);
        this.server?.releaseDomain(domid as DomId);
      },
    };
  }

  #create(domid: number): DomainEnd {
    const memory = new ArrayBuffer(PAGE_SIZE);
    const page = { u8: new Uint8Array(memory), u32: new Uint32Array(memory), byteOffset: 0 };
    const domain: MemoryDomain = {
      page,
      port: 1,
      isDown: false,
      onServerEvent: undefined,
      client: undefined,
    };
    this.#domains.set(domid, domain);
    return domainEnd(page, { gfn: GFN, port: domain.port }, (client) => {
      domain.client = client;
      return () => queueMicrotask(() => domain.onServerEvent?.());
    });
  }
}

/** `onConnect` is told the new client (undefined: none yet) and returns how it kicks. */
export function domainEnd(
  page: RingPage,
  arguments_: { readonly gfn: number; readonly port: number },
  onConnect: (client: RingClient | undefined) => () => void,
): DomainEnd {
  const { offset } = XENSTORE_DOMAIN_INTERFACE;
  return {
    ...arguments_,
    connect: () => {
      const client = connectRing(page, onConnect(undefined));
      onConnect(client);
      return client;
    },
    ringState: () => ({
      features: Atomics.load(page.u32, offset.server_features / 4),
      error: Atomics.load(page.u32, offset.error / 4),
    }),
  };
}
