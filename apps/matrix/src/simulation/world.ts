import type { DomId } from '@virtlab/abi/brands';
import { type Prng, createPrng } from '@virtlab/aio';
import { type Simulation, createSimulation } from '@virtlab/aio/simulated';
import { type LocalGuest, type LocalSystem, createLocalSystem } from '@virtlab/domain/testing';
import { createBlkDevice } from '@virtlab/virtio-blk';
import {
  type LearningSwitch,
  createHostPort,
  createLearningSwitch,
  createNetDevice,
} from '@virtlab/virtio-net';
import { createRngDevice } from '@virtlab/virtio-rng';
import { echoFrames } from '../echo-station.ts';
import { PEER_MAC, randomByteAt } from '../fixtures.ts';
import type { Plan } from './plan.ts';
import { type Platters, VolatileDisk } from './volatile-disk.ts';

/** What happened to a run besides its work. */
export interface WorldStatistics {
  guests: number;
  kills: number;
  conflicts: number;
}

/**
 * One machine in virtual time: domain 0 with everything that it serves, and its guests. All choices come from the plan's
 * seed.
 */
export class World {
  readonly simulation: Simulation;
  readonly prng: Prng;
  readonly plan: Plan;
  readonly statistics: WorldStatistics = { guests: 0, kills: 0, conflicts: 0 };
  readonly #director: ReturnType<Simulation['createContext']>;
  #conflictsInRow = 0;
  #bootCount = 0;

  constructor(plan: Plan) {
    this.plan = plan;
    this.prng = createPrng(plan.seed ^ 0x5eed);
    const deliver = plan.bug === 'doorbells that get lost' ? 'dropping' : plan.doorbells;
    this.simulation = createSimulation({ seed: plan.seed, deliver });
    this.#director = this.simulation.createContext('director');
  }

  /** Resolves when the virtual clock has come there. */
  async at(ms: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = this.#director.createTimer(resolve);
    timer.arm(Math.max(0, ms - this.simulation.now()));
    await promise;
    timer[Symbol.dispose]();
  }

  note(detail: string): void {
    this.simulation.note('director', detail);
  }

  /** Boots domain 0 of a new machine. */
  async boot(): Promise<Machine> {
    const boot = ++this.#bootCount;
    const nameOf = (domain: DomId): string => `${boot}.${domain === 0 ? 'dom0' : `domU${domain}`}`;
    const slownessOf = (domain: DomId): number => {
      const { slowness } = this.plan;
      return domain === 0 ? slowness[0]! : slowness[1 + (domain % (slowness.length - 1))]!;
    };
    const system = await createLocalSystem(
      (domain) => this.simulation.createContext(nameOf(domain), { slowness: slownessOf(domain) }),
      { store: { forceConflict: () => this.#meets() } },
    );
    return new Machine(this, system);
  }

  #meets(): boolean {
    const { conflictChance, conflictMax } = this.plan;
    const meets = this.#conflictsInRow < conflictMax && this.prng.fraction() < conflictChance;
    this.#conflictsInRow = meets ? this.#conflictsInRow + 1 : 0;
    if (meets) this.statistics.conflicts += 1;
    return meets;
  }
}

export class Machine {
  readonly system: LocalSystem;
  readonly #world: World;
  readonly #wire: LearningSwitch;
  readonly #disks: VolatileDisk[] = [];

  constructor(world: World, system: LocalSystem) {
    this.#world = world;
    this.system = system;
    this.#wire = createLearningSwitch({ now: () => world.simulation.now() });
    const station = createHostPort(this.#wire, 'echo');
    echoFrames(station, PEER_MAC);
  }

  /** A guest with a disk, a network card and entropy, running. */
  async addGuest(index: number, platters: Platters): Promise<LocalGuest> {
    const { plan, statistics, prng } = this.#world;
    const { services, dom0 } = this.system;
    const name = `guest${index}-${(statistics.guests += 1)}`;
    const bug = plan.bug === 'doorbells that get lost' ? undefined : plan.bug;
    const backend = new VolatileDisk(platters, dom0.aio, prng, bug);
    this.#disks.push(backend);
    const mac = Uint8Array.of(2, 0, 0, 0, statistics.guests, index);
    let drawn = 0;
    const source = {
      fill: (bytes: Uint8Array) => {
        for (let at = 0; at < bytes.length; at += 1) bytes[at] = randomByteAt(drawn++);
      },
    };
    const devices = [
      createBlkDevice({ backend }),
      createNetDevice({ mac, port: this.#wire.addPort(name) }),
      createRngDevice({ source }),
    ];
    return await this.system.addGuest(name, plan.bus === 'pci' ? 'hvm' : 'pv', async (guest) => {
      for (const [at, device] of devices.entries())
        await services.devices.plug(guest, at, device, `${name}-${at}`);
    });
  }

  /** As SIGKILL would; the toolstack cleans up after it. */
  async kill({ guest, domain }: LocalGuest): Promise<void> {
    this.#world.note(`kill ${guest.name}`);
    this.#world.statistics.kills += 1;
    this.system.machine.hypervisor.destroyDomain(domain.id, 'crash', 'killed');
    await this.destroy(guest);
  }

  async destroy(guest: LocalGuest['guest']): Promise<void> {
    await this.system.services.toolstack.destroyGuest(guest);
    await this.system.services.devices.idle();
  }

  /** Domain 0 and everything in it stops between two instructions. */
  killDom0(): void {
    this.#world.note('kill domain 0');
    this.#world.statistics.kills += 1;
    for (const disk of this.#disks) disk.stop();
    this.system.machine.hypervisor.destroyDomain(this.system.dom0.id, 'crash', 'killed');
  }
}
