import type { FeatureBits } from '@virtlab/abi/brands';
import type { AioContext } from '@virtlab/aio';
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
import { type TestLoop, createTestLoop, runUntilDone } from './loop.ts';

export interface BlkBenchOptions {
  readonly device: VirtioDevice;
  /** The driver's memory. Default 2 MiB. */
  readonly dma?: HostileDmaMapper;
  readonly doorbells?: DoorbellPolicy;
  readonly seed?: number;
  readonly polling?: boolean;
}

/** Far beyond what anything here needs; reached only by what will never happen. */
const ROUNDS_MAX = 2000;

/** A device on the memory transport, both sides simulated, with memory that is copied when lent and keeps books. */
export class BlkBench {
  readonly dma: HostileDmaMapper;
  readonly aio: AioContext;
  readonly host: DeviceHost;
  readonly link: DriverLink;
  readonly violations: DeviceViolation[] = [];
  readonly #transport: MemoryTransport;
  readonly #loop: TestLoop;
  readonly #deviceMemory: CountingDeviceMemory;

  constructor({ device, dma, doorbells = 'calm', seed = 1, polling = false }: BlkBenchOptions) {
    this.dma = dma ?? new HostileDmaMapper({ memorySize: 2 << 20 });
    this.#deviceMemory = new CountingDeviceMemory(this.dma.deviceMemory);
    this.#loop = createTestLoop(seed);
    this.aio = this.#loop.aio;
    this.host = new DeviceHost({
      device,
      aio: this.#loop.deviceAio,
      polling,
      onViolation: (report) => this.violations.push(report),
      onError: (error) => {
        throw error;
      },
    });
    this.#transport = createMemoryTransport({
      host: this.host,
      driverAio: this.aio,
      deviceAio: this.#loop.deviceAio,
      memory: this.dma.memory,
      dma: this.dma,
      deviceMemory: this.#deviceMemory,
      doorbells,
      seed,
    });
    this.link = this.#transport.link;
  }

  async initialize(wanted: FeatureBits): Promise<DriverSession> {
    return await this.run(initializeDevice(this.link, { aio: this.aio, wanted, queueSizeMax: 32 }));
  }

  async settle(): Promise<void> {
    await this.#loop.settle();
  }

  async advance(timeoutMs: number): Promise<void> {
    await this.#loop.advance(timeoutMs);
  }

  async until(what: string, condition: () => boolean): Promise<void> {
    for (let round = 0; round < ROUNDS_MAX && !condition(); round += 1) await this.settle();
    if (!condition()) throw new Error(`everything is idle and still not: ${what}`);
  }

  /** Awaits `work` while the loop runs. */
  async run<T>(work: Promise<T>): Promise<T> {
    return await runUntilDone(this.#loop, work);
  }

  /** Ends once the device has stopped touching memory; the loop is the caller's to run. */
  async removeDevice(reason: string): Promise<void> {
    await this.#transport.removeDevice(reason);
  }

  /** Ends both sides. Throws if anything is still held. */
  async closeClean(): Promise<void> {
    const leaks = await this.close();
    if (leaks.length > 0) throw new Error(`still held: ${leaks.join('; ')}`);
  }

  /** Ends both sides; what is still held. */
  async close(): Promise<readonly string[]> {
    await this.run(this.#transport.close());
    this.host[Symbol.dispose]();
    const { deviceAio } = this.#loop;
    const leaks = [
      ...this.dma.leaks(),
      ...this.#deviceMemory.leaks(),
      ...this.aio.leaks(),
      ...deviceAio.leaks(),
    ];
    this.aio[Symbol.dispose]();
    deviceAio[Symbol.dispose]();
    return leaks;
  }
}
