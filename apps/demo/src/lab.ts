import type { DomId } from '@virtlab/abi/brands';
import { type ProcessMachine, createDomainMachine } from '@virtlab/domain/node';
import { linuxFfi } from '@virtlab/linux';
import type { ConsoleRecord, Dom0Arguments, Dom0Requests, DomURequests } from './messages.ts';
import { DemoError } from './options.ts';

const DOM0_RAM_SIZE = 64 << 20;
const UP_TIMEOUT_MS = 30_000;

type Answer<F> = F extends (...args: never[]) => infer T ? T : never;
type Request<F> = F extends (request: infer R) => unknown ? (R extends object ? R : object) : object;

/** The machine as the demo drives it: requests by name, and the first thing that went wrong ends every wait. */
export class Lab implements AsyncDisposable {
  readonly machine: ProcessMachine;
  readonly warnings: string[] = [];
  readonly #up = new Map<DomId, PromiseWithResolvers<number>>();
  readonly #failure = Promise.withResolvers<never>();
  readonly #expectedEnds = new Set<DomId>();
  readonly #ended = new Map<DomId, PromiseWithResolvers<void>>();
  onProgress: ((fraction: number) => void) | undefined;
  dom0!: DomId;

  /** Throws `DemoError` where domains cannot be processes. */
  constructor() {
    const ffi = linuxFfi();
    if (!ffi.available) {
      throw new DemoError('environment', `Domains cannot be processes on this machine: ${ffi.reason}`);
    }
    this.#failure.promise.catch(() => {}); // every wait sees it; with nobody waiting there is nobody to tell
    this.machine = createDomainMachine({
      onConsole: (domain, record) => this.#console(domain, record as ConsoleRecord),
      onDomainEnd: (domain, _reason, detail) => this.#end(domain, detail),
    });
  }

  /** Starts domain 0 and resolves when its services run. */
  async bootDom0(args: Dom0Arguments): Promise<void> {
    const { hypervisor } = this.machine;
    this.dom0 = hypervisor.createDomain({ name: 'dom0', type: 'pv', ramSize: DOM0_RAM_SIZE });
    const module = new URL(import.meta.url.endsWith('.ts') ? './dom0.ts' : './dom0.js', import.meta.url).href;
    hypervisor.unpauseDomain(this.dom0, { module, args }, { xenstoreFrame: 0, xenstorePort: 0 });
    await this.untilUp(this.dom0);
  }

  /** Resolves with the milliseconds that the program itself needed. */
  async untilUp(domain: DomId): Promise<number> {
    const timer = setTimeout(
      () => this.fail(`Domain ${domain} did not come up within ${UP_TIMEOUT_MS} ms`),
      UP_TIMEOUT_MS,
    );
    try {
      return await Promise.race([this.#upOf(domain).promise, this.#failure.promise]);
    } finally {
      clearTimeout(timer);
    }
  }

  askDom0<Op extends keyof Dom0Requests>(
    op: Op,
    request: Request<Dom0Requests[Op]>,
  ): Promise<Answer<Dom0Requests[Op]>> {
    return this.#ask(this.dom0, { op, ...request });
  }

  ask<Op extends keyof DomURequests>(
    domain: DomId,
    op: Op,
    request: Request<DomURequests[Op]>,
  ): Promise<Answer<DomURequests[Op]>> {
    return this.#ask(domain, { op, ...request });
  }

  /** From now on the ends of these domains are no failure. */
  expectEnd(domains: Iterable<DomId>): void {
    for (const domain of domains) this.#expectedEnds.add(domain);
  }

  async untilEnded(domain: DomId): Promise<void> {
    await this.#endOf(domain).promise;
  }

  fail(message: string): void {
    this.#failure.reject(new DemoError('failed', message));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.expectEnd(this.machine.hypervisor.domains().map((info) => info.domain));
    await this.machine.close();
  }

  async #ask<T>(domain: DomId, message: object): Promise<T> {
    return (await Promise.race([this.machine.request(domain, message), this.#failure.promise])) as T;
  }

  #console(domain: DomId, record: ConsoleRecord): void {
    switch (record.kind) {
      case 'up':
        return this.#upOf(domain).resolve(record.sinceStartMs);
      case 'progress':
        return this.onProgress?.(record.fraction);
      case 'warning':
        return void this.warnings.push(`domain ${domain}: ${record.message}`);
      case 'panic':
        return this.fail(`Domain ${domain} failed: ${record.message}`);
    }
  }

  #end(domain: DomId, detail: string): void {
    this.#endOf(domain).resolve();
    if (!this.#expectedEnds.has(domain)) this.fail(`Domain ${domain} ended: ${detail}`);
  }

  #upOf(domain: DomId): PromiseWithResolvers<number> {
    return entry(this.#up, domain);
  }

  #endOf(domain: DomId): PromiseWithResolvers<void> {
    return entry(this.#ended, domain);
  }
}

function entry<T>(map: Map<DomId, PromiseWithResolvers<T>>, domain: DomId): PromiseWithResolvers<T> {
  const found = map.get(domain) ?? Promise.withResolvers<T>();
  map.set(domain, found);
  return found;
}
