import type { DomId } from '@virtlab/abi/brands';
import { createDomainMachine } from '@virtlab/domain/node';
import type { ProcessMachine } from '@virtlab/domain/node';
import { openFdCount } from '@virtlab/linux';
import { vi } from 'vitest';
import { blockOf } from '../mortality/numbered-disk.ts';
import type {
  Flushed,
  Dom0Arguments,
  Dom0Request,
  DomURequest,
  GuestSpec,
  Inventory,
} from '../mortality/messages.ts';
import { type BundledPrograms, bundlePrograms } from './bundled-programs.ts';

export interface ConsoleRecord {
  readonly kind: string;
  readonly message?: string;
  readonly leaks?: readonly string[];
}

const RAM_SIZE = 32 << 20;
const BOOT_TIMEOUT_MS = 15_000;

/** Domain 0 and guests as processes, any of which may be killed; a panic that was not allowed fails the next wait. */
export class MortalMachine implements AsyncDisposable {
  readonly machine: ProcessMachine;
  /** Why each domain ended. */
  readonly ended: Map<DomId, string> = new Map();
  /** Domains that are allowed to panic. */
  readonly doomed: Set<DomId> = new Set();
  readonly dom0: DomId;
  readonly #records = new Map<DomId, ConsoleRecord[]>();
  readonly #panics: string[] = [];
  readonly #descriptors: number = openFdCount();

  private constructor({ entry, base }: BundledPrograms) {
    this.machine = createDomainMachine({
      entry,
      onConsole: (domain, record) => this.#console(domain, record as ConsoleRecord),
      onDomainEnd: (domain, _reason, detail) => void this.ended.set(domain, detail),
    });
    const { hypervisor } = this.machine;
    this.dom0 = hypervisor.createDomain({ name: 'dom0', type: 'pv', ramSize: RAM_SIZE });
    const args: Dom0Arguments = { programs: base };
    const program = { module: `${base}dom0.js`, args };
    hypervisor.unpauseDomain(this.dom0, program, { xenstoreFrame: 0, xenstorePort: 0 });
  }

  static async start(): Promise<MortalMachine> {
    const made = new MortalMachine(await bundlePrograms());
    await made.untilSaid(made.dom0, 'up');
    return made;
  }

  async create(guest: GuestSpec): Promise<DomId> {
    return (await this.ask({ op: 'create', guest })) as DomId;
  }

  async createAndBoot(guest: GuestSpec): Promise<DomId> {
    const domain = await this.create(guest);
    await this.untilSaid(domain, 'up');
    return domain;
  }

  async ask(request: Dom0Request): Promise<unknown> {
    this.#requireCalm();
    return await this.machine.request(this.dom0, request);
  }

  async inventory(): Promise<Inventory> {
    return (await this.ask({ op: 'inventory' })) as Inventory;
  }

  async askGuest(domain: DomId, request: DomURequest): Promise<unknown> {
    this.#requireCalm();
    return await this.machine.request(domain, request);
  }

  said(domain: DomId): readonly ConsoleRecord[] {
    return this.#records.get(domain) ?? [];
  }

  /** What the flushes that the domain reported have made durable: by block, into `acknowledged`. */
  noteFlushed(domain: DomId, acknowledged: number[]): void {
    for (const record of this.said(domain)) {
      if (record.kind !== 'flushed') continue;
      const { from, to } = record as ConsoleRecord & Flushed;
      for (let generation = from; generation <= to; generation += 1)
        acknowledged[blockOf(generation)] = generation;
    }
  }

  /** Waits for a number of records of a kind. */
  async untilSaid(domain: DomId, kind: string, count: number = 1): Promise<void> {
    await this.until(() => this.said(domain).filter((record) => record.kind === kind).length >= count);
  }

  async until(condition: () => boolean | Promise<boolean>, timeout: number = BOOT_TIMEOUT_MS): Promise<void> {
    let panic: Error | undefined;
    await vi.waitUntil(
      async () => {
        try {
          this.#requireCalm();
        } catch (error) {
          panic = error as Error;
          return true;
        }
        return await condition();
      },
      { timeout, interval: 5 },
    );
    if (panic !== undefined) throw panic;
  }

  signal(domain: DomId, signal: NodeJS.Signals): void {
    const found = this.machine.hypervisor.domains().find((info) => info.domain === domain);
    if (found?.pid === undefined) throw new RangeError(`Domain ${domain} has no process`);
    process.kill(found.pid, signal);
  }

  /** SIGKILL, and waits until the machine has noticed. */
  async kill(domain: DomId): Promise<void> {
    this.doomed.add(domain);
    this.signal(domain, 'SIGKILL');
    await this.until(() => this.ended.has(domain));
  }

  /** Switches the machine off; answers what is left of it. */
  async close(): Promise<readonly string[]> {
    await this.machine.close();
    await vi.waitFor(() => {
      const left = openFdCount() - this.#descriptors;
      if (left !== 0) throw new Error(`${left} descriptors of the machine are left`);
    });
    return [...this.machine.hypervisor.leaks(), ...this.#panics];
  }

  /** Also when a test failed on its way: a domain that is stopped would outlive it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.machine.close();
  }

  #console(domain: DomId, record: ConsoleRecord): void {
    const records = this.#records.get(domain) ?? [];
    this.#records.set(domain, records);
    records.push(record);
    if (record.kind === 'panic' && !this.doomed.has(domain))
      this.#panics.push(`Domain ${domain} panicked: ${record.message}`);
  }

  #requireCalm(): void {
    if (this.#panics.length > 0) throw new Error(this.#panics.join('\n'));
  }
}

/** For the choices of a test; `VIRTLAB_SEED` repeats a run. */
export const SEED: number = Number(process.env['VIRTLAB_SEED'] ?? Date.now() % 2 ** 32);
