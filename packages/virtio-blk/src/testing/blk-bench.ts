import type { FeatureBits } from '@virtlab/abi/brands';
import type { AioContext } from '@virtlab/aio';
import { CountingDeviceMemory, HostileDmaMapper } from '@virtlab/guest-memory/testing';
import {
  type DeviceHost,
  type DeviceViolation,
  type DriverLink,
  type DriverSession,
  type VirtioDevice,
  initializeDevice,
} from '@virtlab/virtio';
import { type MemoryBench, createMemoryBench } from '@virtlab/virtio/conformance';
import type { DoorbellPolicy } from '@virtlab/virtio/memory';
import { SimulatedLoops, runUntil } from '@virtlab/virtio/testing';

export interface BlkBenchOptions {
  readonly device: VirtioDevice;
  /** The driver's memory. Default 2 MiB. */
  readonly dma?: HostileDmaMapper;
  readonly doorbells?: DoorbellPolicy;
  readonly seed?: number;
  readonly polling?: boolean;
}

/** A device on the memory transport, both sides simulated, with memory that is copied when lent and keeps books. */
export class BlkBench {
  readonly dma: HostileDmaMapper;
  readonly aio: AioContext;
  readonly host: DeviceHost;
  readonly link: DriverLink;
  readonly violations: DeviceViolation[] = [];
  readonly #machine: MemoryBench;
  readonly #loops: SimulatedLoops;

  constructor({ device, dma, doorbells = 'calm', seed = 1, polling = false }: BlkBenchOptions) {
    const lent = dma ?? new HostileDmaMapper({ memorySize: 2 << 20 });
    const deviceMemory = new CountingDeviceMemory(lent.deviceMemory);
    this.dma = lent;
    this.#loops = new SimulatedLoops(seed);
    this.aio = this.#loops.driverAio;
    this.#machine = createMemoryBench({
      device,
      loops: this.#loops,
      lent: {
        memory: lent.memory,
        dma: lent,
        deviceMemory,
        leaks: () => [...lent.leaks(), ...deviceMemory.leaks()],
      },
      doorbells,
      seed,
      hostOptions: {
        polling,
        onViolation: (report) => this.violations.push(report),
        onError: (error) => {
          throw error;
        },
      },
    });
    this.host = this.#machine.host;
    this.link = this.#machine.link;
  }

  async initialize(wanted: FeatureBits): Promise<DriverSession> {
    return await this.run(initializeDevice(this.link, { aio: this.aio, wanted, queueSizeMax: 32 }));
  }

  /** Configuration space as the driver would read it now. */
  async readConfig(): Promise<Uint8Array> {
    const bytes = new Uint8Array(this.host.configSize);
    await this.link.transport.readConfigBytes(0, bytes);
    return bytes;
  }

  async settle(): Promise<void> {
    await this.#loops.settle();
  }

  async advance(timeoutMs: number): Promise<void> {
    await this.#loops.simulation.advance(timeoutMs);
  }

  async until(what: string, condition: () => boolean): Promise<void> {
    await runUntil(this, what, condition);
  }

  /** Awaits `work` while the loops run. */
  async run<T>(work: Promise<T>): Promise<T> {
    return await this.#loops.run(work);
  }

  /** Ends once the device has stopped touching memory; the loops are the caller's to run. */
  async removeDevice(reason: string): Promise<void> {
    await this.#machine.removeDevice(reason);
  }

  /** Ends both sides. Throws if anything is still held. */
  async closeClean(): Promise<void> {
    const leaks = await this.close();
    if (leaks.length > 0) throw new Error(`still held: ${leaks.join('; ')}`);
  }

  /** Ends both sides; what is still held. */
  async close(): Promise<readonly string[]> {
    return await this.run(this.#machine.close());
  }
}
