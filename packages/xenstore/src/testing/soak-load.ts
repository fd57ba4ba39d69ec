import { domId } from '@virtlab/abi/brands';
import {
  XENSTORE_PAYLOAD_MAX,
  XSD_SOCKMSG,
  XS_DIRECTORY,
  XS_GET_PERMS,
  XS_INTRODUCE,
  XS_MKDIR,
  XS_READ,
  XS_RELEASE,
  XS_RESET_WATCHES,
  XS_RM,
  XS_SET_PERMS,
  XS_TRANSACTION_END,
  XS_TRANSACTION_START,
  XS_WRITE,
} from '@virtlab/abi/xs-wire';
import { type InProcessXenstore, createXenstore } from '../create-xenstore.ts';
import { memoryStreamPair } from '../memory-stream.ts';
import type { XenstoreProfile } from '../profile.ts';
import { encodePacket } from '../wire.ts';
import { SoakClient, type SoakCounts } from './soak-client.ts';
import { SoakGuests } from './soak-guests.ts';
import { StepClock } from './step-clock.ts';

const TOOLS_MAX = 12;
const GUEST_MAX = 10;
const STEPS_PER_TURN = 16;
const NAMES = ['a', 'b', 'c', 'd', 'e'] as const;
/** Small enough that guests run into all of them. */
const QUOTAS = { nodes: 40, watches: 12, transactions: 4, memorySize: 24_000, nodeSize: 600 } as const;

/** What a cycle left behind when everything was closed; all of it should be as it was before the first. */
export interface SoakRemains {
  readonly nodeCount: number;
  readonly watchCount: number;
  readonly connectionCount: number;
  readonly boundPortCount: number;
  readonly use: string;
  readonly contradictions: readonly string[];
}

/**
 * Mixed load on one store for as long as wanted: connections come and go, guests are introduced and released, some
 * do not read, some break off in the middle of a message; transactions, watches, permissions and quotas. The same
 * seed makes the same requests.
 */
export class SoakLoad {
  readonly counts: SoakCounts = {
    requestCount: 0,
    replyCount: 0,
    errorCount: 0,
    eventCount: 0,
    abortedCount: 0,
  };
  readonly #xenstore: InProcessXenstore;
  readonly #guests = new SoakGuests(
    (domid) => this.#profile.ringSurvivesIntroduce && this.#xenstore.store.domains.isIntroduced(domid),
    (domid) => this.#connectGuest(domid),
  );
  readonly #profile: XenstoreProfile;
  readonly #random: () => number;
  readonly #clock = new StepClock();
  #clients: SoakClient[] = [];

  constructor(seed: number, profile: XenstoreProfile) {
    this.#random = generator(seed);
    this.#profile = profile;
    this.#xenstore = createXenstore({
      profile,
      quotas: QUOTAS,
      domains: this.#guests,
      clock: this.#clock,
      seed,
      limits: { backlogSize: 200_000 },
    });
  }

  /** So many steps, then the end of everybody. */
  async cycle(stepCount: number): Promise<SoakRemains> {
    for (let step = 0; step < stepCount; step += 1) {
      this.#step();
      if (step % STEPS_PER_TURN === 0) await this.#turn();
    }
    await this.#endAll();
    return this.remains();
  }

  remains(): SoakRemains {
    const { store, server } = this.#xenstore;
    const use = store.use().map(({ domid, introduced, nodeCount, watchCount, ...rest }) => {
      const { transactionCount, outstandingCount, memorySize, connectionCount } = rest;
      const counts = [nodeCount, watchCount, transactionCount, outstandingCount, memorySize, connectionCount];
      return `${domid}${introduced ? '' : ' not introduced'}: ${counts.join(' ')}`;
    });
    return {
      nodeCount: store.nodeCount,
      watchCount: store.watchCount,
      connectionCount: server.statistics().connections.length,
      boundPortCount: this.#guests.boundCount,
      use: use.join('; '),
      contradictions: store.verify(),
    };
  }

  close(): void {
    this.#xenstore.close();
  }

  #step(): void {
    this.#clients = this.#clients.filter(({ isClosed }) => !isClosed);
    const tools = this.#clients.filter(({ domid }) => domid === 0);
    if (tools.length === 0 || (tools.length < TOOLS_MAX && this.#one(40))) {
      this.#connectTools();
      return;
    }
    const client = this.#pick(this.#clients);
    if (this.#one(60)) this.#comeOrGo(this.#pick(tools));
    else if (this.#one(50)) this.#misbehave(client);
    else if (this.#one(8)) this.#transact(client);
    else if (this.#one(6)) this.#watch(client);
    else this.#ask(client, this.#pickTransaction(client));
  }

  #connectTools(): SoakClient {
    const [clientEnd, serverEnd] = memoryStreamPair({ capacitySize: 4096 });
    this.#xenstore.server.accept(serverEnd, { domid: 0, privileged: true });
    const client = new SoakClient(0, clientEnd, this.counts);
    this.#clients.push(client);
    return client;
  }

  /** A guest is introduced, for the first time or again, or released: by request, or because it died. */
  #comeOrGo(tools: SoakClient): void {
    const domid = 1 + this.#below(GUEST_MAX);
    const isThere = this.#xenstore.store.domains.isIntroduced(domid);
    if (isThere && !this.#one(4)) {
      if (this.#one(2)) tools.request(XS_RELEASE, 0, `${domid}\0`);
      else this.#xenstore.server.releaseDomain(domId(domid));
      return;
    }
    tools.request(XS_WRITE, 0, `/local/domain/${domid}\0`);
    tools.request(XS_SET_PERMS, 0, `/local/domain/${domid}\0n${domid}\0`);
    tools.request(XS_INTRODUCE, 0, `${domid}\0${domid}\0${domid}\0`);
  }

  /** A guest begins, also when it was introduced again and its connection did not outlive that. */
  #connectGuest(domid: number): void {
    for (const client of this.#clients) if (client.domid === domid) client.isClosed = true;
    this.#clients.push(new SoakClient(domid, this.#guests.connect(domid), this.counts));
  }

  #misbehave(client: SoakClient): void {
    switch (this.#below(5)) {
      case 0: // breaks off in the middle of a message
        client.sendRaw(encodePacket(XS_WRITE, 0, 0, '/soak/half').subarray(0, 1 + this.#below(25)));
        if (client.domid === 0) client.close();
        return;
      case 1: // a message that cannot be
        client.sendRaw(tooLong());
        return;
      case 2:
        if (client.isReading) client.stopReading();
        else client.resumeReading();
        return;
      case 3:
        client.request(this.#below(64), 7, this.#path(client));
        return;
      default:
        if (client.domid === 0) client.close();
    }
  }

  #transact(client: SoakClient): void {
    if (client.transactionIds.length === 0 || this.#one(3)) {
      client.request(XS_TRANSACTION_START, 0, '\0');
      return;
    }
    const index = this.#below(client.transactionIds.length);
    const [id] = client.transactionIds.splice(index, 1);
    client.request(XS_TRANSACTION_END, id!, this.#one(3) ? 'F\0' : 'T\0');
  }

  #watch(client: SoakClient): void {
    if (this.#one(30)) {
      client.watches.length = 0;
      client.transactionIds.length = 0;
      client.request(XS_RESET_WATCHES, 0, '\0');
    } else if (client.watches.length > 0 && this.#one(2)) {
      client.unwatch(this.#below(client.watches.length));
    } else {
      const path = this.#one(5) ? '@releaseDomain' : this.#path(client);
      client.watch(path, `t${this.#below(4)}`);
    }
  }

  #ask(client: SoakClient, txId: number): void {
    const path = this.#path(client);
    const value = 'v'.repeat(this.#one(20) ? this.#below(3000) : this.#below(40));
    switch (this.#below(8)) {
      case 0:
        return client.request(XS_DIRECTORY, txId, `${path}\0`);
      case 1:
        return client.request(XS_GET_PERMS, txId, `${path}\0`);
      case 2:
        return client.request(XS_SET_PERMS, txId, `${path}\0n${client.domid}\0r${this.#below(GUEST_MAX)}\0`);
      case 3:
        return client.request(XS_RM, txId, `${path}\0`);
      case 4:
        return client.request(XS_MKDIR, txId, `${path}\0`);
      case 5:
        return client.request(XS_READ, txId, `${path}\0`);
      default:
        return client.request(XS_WRITE, txId, `${path}\0${value}`);
    }
  }

  /** Everybody leaves, and what they left is removed. */
  async #endAll(): Promise<void> {
    for (const client of this.#clients) client.close();
    this.#clients = [];
    await this.#turn();
    for (let domid = 1; domid <= GUEST_MAX; domid += 1) {
      this.#xenstore.server.releaseDomain(domId(domid));
      this.#guests.forget(domid);
    }
    const tools = this.#connectTools();
    const home = this.#profile.initialNodes.includes('/local') ? '/local/domain' : '/local';
    for (const path of ['/soak', home]) {
      tools.request(XS_MKDIR, 0, `${path}\0`);
      tools.request(XS_RM, 0, `${path}\0`);
      await this.#turn();
    }
    tools.close();
    this.#clients = [];
    await this.#turn();
  }

  /** Whatever was sent has been answered by then, rings and memory streams alike, and a millisecond has passed. */
  async #turn(): Promise<void> {
    this.#clock.advance(1);
    for (let i = 0; i < 4; i += 1) await new Promise<void>((resolve) => setImmediate(resolve));
  }

  #pickTransaction({ transactionIds }: SoakClient): number {
    return transactionIds.length > 0 && this.#one(2) ? this.#pick(transactionIds) : 0;
  }

  #path({ domid }: SoakClient): string {
    const names = Array.from({ length: 1 + this.#below(3) }, () => this.#pick(NAMES)).join('/');
    if (domid !== 0) return this.#one(3) ? `/soak/${names}` : `data/${names}`;
    return this.#one(4) ? `/local/domain/${1 + this.#below(GUEST_MAX)}/data/${names}` : `/soak/${names}`;
  }

  #below(end: number): number {
    return Math.floor(this.#random() * end);
  }

  /** True one time in `count`. */
  #one(count: number): boolean {
    return this.#below(count) === 0;
  }

  #pick<T>(from: readonly T[]): T {
    return from[this.#below(from.length)]!;
  }
}

/** A header that announces more than a payload may have. */
function tooLong(): Uint8Array {
  const bytes = encodePacket(XS_READ, 0, 0, '');
  new DataView(bytes.buffer).setUint32(XSD_SOCKMSG.offset.len, XENSTORE_PAYLOAD_MAX + 1, true);
  return bytes;
}

/** Uniform in [0, 1): mulberry32. */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
