import { type DomId, domId, evtchnPort } from '@virtlab/abi/brands';
import { XENBUS_DIR_BACKEND, XENBUS_DIR_DEVICE, XENBUS_DIR_ERROR } from '@virtlab/abi/xenbus';
import type { DoorbellPolicy, Simulation } from '@virtlab/aio/simulated';
import { createSimulation } from '@virtlab/aio/simulated';
import { type PortTables, createPortTables } from '@virtlab/event-channel/hypervisor';
import { releasePinsOf } from '@virtlab/grant-table';
import { domainPath } from '@virtlab/xenbus';
import { type InProcessXenstore, type Xenstore, createXenstore } from '@virtlab/xenstore';
import { RigDomain } from './rig-domain.ts';

export interface XenRigOptions {
  /** Of everything that is left to chance. Default 1. */
  readonly seed?: number;
  /** How event channels and all other wake-ups are delivered. Default `calm`. */
  readonly doorbells?: DoorbellPolicy['name'];
  /** Pages of RAM of each domain. Default 512. */
  readonly ramPages?: number;
}

/** Wake-ups take at most so long under any policy; deadlines of transports are far longer. */
const SETTLE_MS = 25;
const SETTLE_ROUNDS_MAX = 4000;

/** A machine of several domains in one thread, on a virtual clock, with a toolstack's connection to its xenstore. */
export class XenRig {
  readonly simulation: Simulation;
  readonly xenstore: InProcessXenstore;
  /** Domain 0's own, privileged. */
  readonly toolstack: Xenstore;
  readonly ports: PortTables;
  readonly #ramPages: number;
  readonly #domains = new Map<DomId, RigDomain>();

  constructor({ seed = 1, doorbells = 'calm', ramPages = 512 }: XenRigOptions = {}) {
    this.simulation = createSimulation({ seed, deliver: doorbells });
    this.xenstore = createXenstore();
    this.toolstack = this.xenstore.connect(domId(0), { privileged: true });
    this.#ramPages = ramPages;
    this.ports = createPortTables({
      domainExists: (domain) => this.#domains.has(domain),
      targetOf: (domain) => this.#domains.get(domain)?.eventTarget,
      isPrivileged: (domain) => domain === 0,
    });
  }

  domain(id: DomId): RigDomain | undefined {
    return this.#domains.get(id);
  }

  /** A domain with its home in xenstore, as the toolstack makes it. */
  async addDomain(number: number): Promise<RigDomain> {
    const id = domId(number);
    const domain = this.enlist(new RigDomain(this, id, this.#ramPages));
    if (number !== 0) await this.#makeHome(id);
    return domain;
  }

  /** Makes a domain known to the hypervisor only. */
  enlist(domain: RigDomain): RigDomain {
    this.#domains.set(domain.id, domain);
    this.ports.addDomain(domain.id, domain.portTable);
    return domain;
  }

  /** Ends a domain as a kill does: nobody asks it, everybody else finds out. */
  kill(domain: RigDomain): void {
    domain.aio[Symbol.dispose]();
    this.#domains.delete(domain.id);
    this.ports.removeDomain(domain.id);
    for (const other of this.#domains.values()) releasePinsOf(other.grantView, domain.id);
    this.xenstore.releaseDomain(domain.id);
  }

  /** Lets all domains run until there is nothing to do for now; the clock does not reach deadlines. */
  async settle(): Promise<void> {
    await this.simulation.run({ untilMs: this.simulation.now() + SETTLE_MS, untilIdle: true });
  }

  /** Awaits `work` without letting any deadline pass. Rejects when everything is idle and it did not finish. */
  async run<T>(work: PromiseLike<T>): Promise<T> {
    const progress = observe(work);
    for (let round = 0; round < SETTLE_ROUNDS_MAX && !progress.isDone; round += 1) await this.settle();
    if (!progress.isDone) throw new Error('All domains are idle and the operation did not finish');
    return await work;
  }

  async until(what: string, condition: () => boolean): Promise<void> {
    for (let round = 0; round < SETTLE_ROUNDS_MAX && !condition(); round += 1) await this.settle();
    if (!condition()) throw new Error(`All domains are idle and still not: ${what}`);
  }

  /** Awaits `work`, passing deadlines if it comes to that. Rejects when nothing is left that could make it finish. */
  async finish<T>(work: PromiseLike<T>): Promise<T> {
    const progress = observe(work);
    await this.simulation.run();
    if (!progress.isDone) throw new Error('Nothing is left to happen and the operation did not finish');
    return await work;
  }

  /** What the domains, and connections to xenstore, still hold. */
  leaks(): readonly string[] {
    const held = [...this.#domains.values()].flatMap((domain) => domain.leaks());
    try {
      this.xenstore.assertQuiescent();
    } catch (error) {
      held.push(String(error));
    }
    return held;
  }

  async #makeHome(id: DomId): Promise<void> {
    const home = domainPath(id);
    const readable = [
      { domid: 0, access: 'n' },
      { domid: id, access: 'r' },
    ] as const;
    await this.toolstack.transaction(async (tx) => {
      for (const directory of [home, `${home}/${XENBUS_DIR_DEVICE}`, `${home}/${XENBUS_DIR_BACKEND}`]) {
        await tx.mkdir(directory);
        await tx.setPermissions(directory, readable);
      }
      await tx.mkdir(`${home}/${XENBUS_DIR_ERROR}`);
      await tx.setPermissions(`${home}/${XENBUS_DIR_ERROR}`, [{ domid: id, access: 'n' }]);
    });
    await this.toolstack.introduce(id, 0, evtchnPort(1));
  }
}

/** Tells whether a promise has settled; a rejection is still the caller's to handle. */
function observe(work: PromiseLike<unknown>): { readonly isDone: boolean } {
  const progress = { isDone: false };
  const finished = (): void => {
    progress.isDone = true;
  };
  work.then(finished, finished);
  return progress;
}
