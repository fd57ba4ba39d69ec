import type { FeatureBits } from '@virtlab/abi/brands';
import type { AioContext } from '@virtlab/aio';
import { type Simulation, createSimulation } from '@virtlab/aio/simulated';
import { CountingDeviceMemory, HostileDmaMapper } from '@virtlab/guest-memory/testing';
import {
  DeviceHost,
  type DeviceViolation,
  type DriverLink,
  type DriverSession,
  type VirtioDevice,
  initializeDevice,
} from '@virtlab/virtio';
import { type DoorbellPolicy, type MemoryTransport, createMemoryTransport } from '@virtlab/virtio/memory';
import { runUntil, runUntilDone } from '@virtlab/virtio/testing';

export interface NetBenchOptions {
  readonly doorbells?: DoorbellPolicy;
  readonly seed?: number;
  readonly polling?: boolean;
}

export interface GuestOptions {
  /** Bytes of the guest's memory. Default 1 MiB. */
  readonly memorySize?: number;
}

/** A guest's machine: its own memory, copied when lent, with books; its own loop; one network card. */
export interface GuestBench {
  readonly aio: AioContext;
  readonly link: DriverLink;
  readonly host: DeviceHost;
  readonly dma: HostileDmaMapper;
  readonly violations: readonly DeviceViolation[];
  initialize(wanted: FeatureBits): Promise<DriverSession>;
  removeDevice(reason: string): Promise<void>;
}

/** Longer than the slowest doorbell. */
const SETTLE_MS = 25;

/** Guests of one host, each in a loop of its own, on one virtual clock in an order that the seed decides. */
export class NetBench {
  readonly simulation: Simulation;
  /** The loop that all devices run in. */
  readonly deviceAio: AioContext;
  readonly #options: NetBenchOptions;
  readonly #closers: (() => Promise<readonly string[]>)[] = [];

  constructor(options: NetBenchOptions = {}) {
    this.#options = options;
    this.simulation = createSimulation({ seed: options.seed ?? 1 });
    this.deviceAio = this.simulation.createContext('devices');
  }

  addGuest(device: VirtioDevice, { memorySize = 1 << 20 }: GuestOptions = {}): GuestBench {
    const { seed = 1, polling = false, doorbells = 'calm' } = this.#options;
    const dma = new HostileDmaMapper({ memorySize });
    const deviceMemory = new CountingDeviceMemory(dma.deviceMemory);
    const aio = this.simulation.createContext(`guest ${this.#closers.length}`);
    const violations: DeviceViolation[] = [];
    const host = new DeviceHost({
      device,
      aio: this.deviceAio,
      polling,
      onViolation: (report) => violations.push(report),
      onError: (error) => {
        throw error;
      },
    });
    const transport = createMemoryTransport({
      host,
      driverAio: aio,
      deviceAio: this.deviceAio,
      memory: dma.memory,
      dma,
      deviceMemory,
      doorbells,
      seed: seed + this.#closers.length,
    });
    this.#closers.push(() => this.#closeGuest(transport, host, aio, [dma, deviceMemory]));
    const { link } = transport;
    return {
      aio,
      link,
      host,
      dma,
      violations,
      initialize: (wanted) => this.run(initializeDevice(link, { aio, wanted, queueSizeMax: 16 })),
      removeDevice: (reason) => transport.removeDevice(reason),
    };
  }

  async settle(): Promise<void> {
    await this.simulation.advance(SETTLE_MS);
  }

  async until(what: string, condition: () => boolean): Promise<void> {
    await runUntil(this, what, condition);
  }

  /** Awaits `work` while the loops run. */
  async run<T>(work: Promise<T>): Promise<T> {
    return await runUntilDone(this, work);
  }

  /** Ends all guests; what is still held. */
  async close(): Promise<readonly string[]> {
    const leaks: string[] = [];
    for (const closeGuest of this.#closers) leaks.push(...(await closeGuest()));
    leaks.push(...this.deviceAio.leaks());
    this.deviceAio[Symbol.dispose]();
    return leaks;
  }

  async #closeGuest(
    transport: MemoryTransport,
    host: DeviceHost,
    aio: AioContext,
    books: readonly { leaks(): readonly string[] }[],
  ): Promise<readonly string[]> {
    await this.run(transport.close());
    host[Symbol.dispose]();
    const leaks = [...books.flatMap((book) => book.leaks()), ...aio.leaks()];
    aio[Symbol.dispose]();
    return leaks;
  }
}
