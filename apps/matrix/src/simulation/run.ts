import { createPrng } from '@virtlab/aio';
import type { LocalGuest } from '@virtlab/domain/testing';
import { BLOCK_COUNT, IMAGE_SIZE } from '../mortality/numbered-disk.ts';
import { runUntilOver } from '../virtual-time.ts';
import { type GuestWork, runGuest } from './guest.ts';
import { GUEST_COUNT, type Plan } from './plan.ts';
import { Platters } from './volatile-disk.ts';
import { type Machine, World, type WorldStatistics } from './world.ts';

/** A run that has not ended by then hangs: every deadline of a driver or transport is far shorter. */
const VIRTUAL_LIMIT_MS = 120_000;
const BATCH_COUNT = 12;
/** Deadlines of control operations are 5 s; several may follow each other. */
const LOSS_NOTICED_WITHIN_MS = 30_000;

export interface Outcome extends WorldStatistics {
  readonly plan: Plan;
  /** What went wrong, in words. */
  readonly failure: string | undefined;
  readonly virtualMs: number;
  readonly steps: number;
  /** Of the whole trace: two runs of one plan have the same. */
  readonly digest: string;
  /** The trace, one line an entry. */
  trace(): readonly string[];
}

/** Runs a plan to its end. Never rejects: what goes wrong is the outcome. */
export async function runPlan(plan: Plan): Promise<Outcome> {
  const world = new World(plan);
  let failure: string | undefined;
  const run = new Run(world);
  const { simulation } = world;
  const work = run.all().catch((error: unknown) => {
    failure = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  });
  try {
    if (!(await runUntilOver(simulation, work, VIRTUAL_LIMIT_MS)))
      failure = `Hangs: ${run.stage} not over after ${VIRTUAL_LIMIT_MS / 1000} virtual seconds`;
  } catch (error) {
    failure = `A callback threw: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`;
  }
  const lines = (): readonly string[] =>
    simulation.trace.map(
      ({ atMs, context, what, detail }) => `${atMs.toFixed(4)} ${context} ${what} ${detail}`,
    );
  return {
    ...world.statistics,
    plan,
    failure,
    virtualMs: simulation.now(),
    steps: simulation.stepCount,
    digest: digestOf(lines()),
    trace: lines,
  };
}

/** A guest's place: its disk, what is durable on it, and who works there now. */
interface Seat {
  readonly platters: Platters;
  readonly acknowledged: number[];
  local: LocalGuest | undefined;
  work: Promise<readonly string[]> | undefined;
}

class Run {
  /** For the message, if it hangs. */
  stage = 'boot';
  readonly #world: World;
  readonly #seats: readonly Seat[] = Array.from({ length: GUEST_COUNT }, () => ({
    platters: new Platters(IMAGE_SIZE),
    acknowledged: Array.from({ length: BLOCK_COUNT }, () => 0),
    local: undefined,
    work: undefined,
  }));
  /** Guests whose errors are to be expected. */
  readonly #doomed = new Set<LocalGuest>();

  constructor(world: World) {
    this.#world = world;
  }

  async all(): Promise<void> {
    const { plan, simulation } = this.#world;
    const machine = await this.#world.boot();
    await Promise.all(this.#seats.map((_, index) => this.#seat(machine, index)));
    const bootedMs = simulation.now();
    for (const { atMs, guest } of plan.kills) {
      this.stage = `waiting for the kill at ${atMs.toFixed(1)}`;
      await this.#world.at(bootedMs + atMs);
      await this.#replace(machine, guest);
    }
    if (plan.dom0DiesAtMs === undefined) {
      await this.#finish(machine);
      return;
    }
    await this.#world.at(bootedMs + plan.dom0DiesAtMs);
    await this.#loseDom0(machine);
    this.stage = 'the second boot';
    const second = await this.#world.boot();
    for (const index of this.#seats.keys()) await this.#seat(second, index);
    await this.#finish(second);
  }

  async #seat(machine: Machine, index: number): Promise<void> {
    const seat = this.#seats[index]!;
    this.stage = `the boot of guest ${index}`;
    const local = await machine.addGuest(index, seat.platters);
    const { plan, prng } = this.#world;
    const work: GuestWork = {
      bus: plan.bus,
      prng: createPrng(prng.next()),
      acknowledged: seat.acknowledged,
      batchCount: BATCH_COUNT,
    };
    seat.local = local;
    seat.work = runGuest(local, work);
    // Looked at later; until then a rejection is nobody's fault.
    seat.work.catch(() => undefined);
  }

  async #replace(machine: Machine, index: number): Promise<void> {
    const victim = this.#seats[index]!.local!;
    this.stage = `the end of guest ${index}`;
    this.#doomed.add(victim);
    await machine.kill(victim);
    await this.#seat(machine, index);
  }

  /** All work is done without an error, and nothing is left. */
  async #finish(machine: Machine): Promise<void> {
    for (const [index, { work, local }] of this.#seats.entries()) {
      this.stage = `the work of guest ${index}`;
      const leaks = await work!;
      if (leaks.length > 0) throw new Error(`Guest ${index} still holds ${leaks.join(', ')}`);
      this.stage = `the destruction of guest ${index}`;
      await machine.destroy(local!.guest);
    }
    this.stage = 'the shutdown';
    const leaks = await machine.system.close();
    if (leaks.length > 0) throw new Error(`Left in the machine: ${leaks.join(', ')}`);
  }

  /** Every guest learns it, or had finished; what the disks had not flushed is lost. */
  async #loseDom0(machine: Machine): Promise<void> {
    const { prng, simulation } = this.#world;
    machine.killDom0();
    const diedMs = simulation.now();
    for (const [index, seat] of this.#seats.entries()) {
      this.stage = `guest ${index} noticing that domain 0 died`;
      await seat.work!.catch((error: unknown) => requireLoss(index, error));
      if (simulation.now() - diedMs > LOSS_NOTICED_WITHIN_MS) {
        throw new Error(
          `Guest ${index} noticed after ${simulation.now() - diedMs} ms that domain 0 had died`,
        );
      }
      machine.system.machine.hypervisor.destroyDomain(seat.local!.domain.id, 'crash', 'its domain 0 died');
      seat.platters.loseCache(prng);
    }
    const leaks = machine.system.machine.hypervisor.leaks();
    if (leaks.length > 0) throw new Error(`Left in the machine after domain 0 died: ${leaks.join(', ')}`);
  }
}

/** Errors that say that the device, or xenstored, is gone. */
const LOSSES = new Set(['ENODEV', 'EIO', 'ETIMEDOUT', 'ESRCH', 'ECONNRESET']);

function requireLoss(index: number, error: unknown): void {
  const { code, message } = error as { code?: string; message?: string };
  if (LOSSES.has(code ?? '') || /^ENODEV|device gone/.test(message ?? '')) return;
  throw new Error(`Guest ${index} was told something else than a loss when domain 0 died: ${String(error)}`, {
    cause: error,
  });
}

/** FNV-1a, 64 bits as two halves of their own. */
function digestOf(lines: readonly string[]): string {
  let [a, b] = [0x811c_9dc5, 0x01000193];
  for (const line of lines) {
    for (let at = 0; at < line.length; at += 1) {
      a = Math.imul(a ^ line.charCodeAt(at), 0x0100_0193);
      b = Math.imul(b + line.charCodeAt(at), 0x85eb_ca6b) ^ (b >>> 13);
    }
  }
  return (a >>> 0).toString(16).padStart(8, '0') + (b >>> 0).toString(16).padStart(8, '0');
}
