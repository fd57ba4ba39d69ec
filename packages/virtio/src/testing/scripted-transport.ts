import type { FeatureBits } from '@virtlab/abi/brands';
import { VIRTIO_CONFIG_S_NEEDS_RESET, VIRTIO_F_VERSION_1, featureBit } from '@virtlab/abi/virtio';
import { IdentityDmaMapper, type MemoryRegion, memoryRegion } from '@virtlab/guest-memory';
import type { QueueAddresses } from '@virtlab/vring';
import { type RawDescriptor, RawRing, ScriptedDevice, reachRegion } from '@virtlab/vring/testing';
import {
  type DriverLink,
  type DriverTransport,
  type TransportCapabilities,
  TransportError,
} from '../contract.ts';

export interface ScriptedTransportOptions {
  readonly deviceType: number;
  readonly queueCount: number;
  /** Offered beside VERSION_1. */
  readonly features: FeatureBits;
  readonly config: Uint8Array;
  /** Default 16. */
  readonly queueSizeMax?: number;
  /** Bytes of the driver's memory, whole pairs of pages. Default 4 MiB. */
  readonly memorySize?: number;
}

/** A chain as it stands in memory, an indirect table opened. */
export interface ScriptedChain {
  readonly head: number;
  readonly descriptors: readonly RawDescriptor[];
}

const MEMORY_SIZE = 4 << 20;

const CAPABILITIES: TransportCapabilities = {
  name: 'scripted',
  queueReset: false,
  configWrite: false,
  callPerQueue: true,
};

/**
 * A device that is all script, as its driver sees it: the transport, and behind it rings that the test writes word by
 * word. For what no honest device does.
 */
export class ScriptedTransport implements DriverTransport {
  readonly deviceType: number;
  readonly queueCount: number;
  readonly capabilities: TransportCapabilities = CAPABILITIES;
  readonly link: DriverLink;
  readonly memory: MemoryRegion;
  /** What stands behind each queue, from the moment that the driver enables it. */
  readonly rings: ScriptedDevice[] = [];
  config: Uint8Array;
  kickCount = 0;
  resetCount = 0;
  /** While set, a reset is never confirmed. */
  isDeaf = false;
  /** While set, the configuration cannot be read. */
  isConfigBroken = false;
  #isGone = false;
  readonly #options: ScriptedTransportOptions;
  readonly #base: bigint;
  readonly #dma: IdentityDmaMapper;
  readonly #heads: number[][] = [];
  readonly #callHandlers: ((() => void) | undefined)[] = [];
  #configHandler: (() => void) | undefined;
  #goneHandler: ((reason: string) => void) | undefined;
  #status = 0;

  constructor(options: ScriptedTransportOptions) {
    const size = options.memorySize ?? MEMORY_SIZE;
    // The low words of the addresses wrap in the middle of the memory.
    this.#base = 0x2_0000_0000n - BigInt(size / 2);
    this.memory = memoryRegion(new ArrayBuffer(size));
    this.#dma = new IdentityDmaMapper(this.memory, { baseAddress: this.#base });
    this.deviceType = options.deviceType;
    this.queueCount = options.queueCount;
    this.config = options.config;
    this.#options = options;
    this.link = { transport: this, dma: this.#dma, [Symbol.asyncDispose]: async () => undefined };
  }

  /** Offset in `memory` of a device address. */
  at(address: bigint): number {
    return Number(address - this.#base);
  }

  /** How many chains the driver made available on a queue that were not taken. */
  available(queue: number = 0): number {
    const heads = this.#heads[queue]!;
    heads.push(...this.rings[queue]!.takeAvailable());
    return heads.length;
  }

  /** The next of these chains. */
  take(queue: number = 0): ScriptedChain {
    if (this.available(queue) === 0) throw new Error(`nothing is available on queue ${queue}`);
    const head = this.#heads[queue]!.shift()!;
    return { head, descriptors: this.rings[queue]!.chain(head) };
  }

  /** What the driver has lent and not taken back. */
  leaks(): readonly string[] {
    const { lentCount, coherentCount, usedPages } = this.#dma;
    const counts = { shares: lentCount, 'coherent buffers': coherentCount, pages: usedPages };
    return Object.entries(counts).flatMap(([what, count]) => (count === 0 ? [] : [`${count} ${what}`]));
  }

  call(queue: number = 0): void {
    this.#callHandlers[queue]?.();
  }

  changeConfig(config: Uint8Array = this.config): void {
    this.config = config;
    this.#configHandler?.();
  }

  needReset(): void {
    this.#status |= VIRTIO_CONFIG_S_NEEDS_RESET;
    this.#configHandler?.();
  }

  vanish(reason: string): void {
    this.#isGone = true;
    this.#goneHandler?.(reason);
  }

  async readDeviceFeatures(): Promise<FeatureBits> {
    return this.#options.features | featureBit(VIRTIO_F_VERSION_1);
  }
  async writeDriverFeatures(_features: FeatureBits): Promise<void> {
    this.#present();
  }
  async readStatus(): Promise<number> {
    this.#present();
    return this.#status;
  }
  async writeStatus(status: number): Promise<void> {
    this.#present();
    if (status === 0) {
      this.resetCount += 1;
      if (this.isDeaf) await new Promise<never>(() => undefined);
    }
    this.#status = status;
  }
  async readQueueSizeMax(_queue: number): Promise<number> {
    return this.#options.queueSizeMax ?? 16;
  }
  async enableQueue(queue: number, addresses: QueueAddresses): Promise<void> {
    this.rings[queue] = new ScriptedDevice(new RawRing(addresses, reachRegion(this.memory, this.#base)));
    this.#heads[queue] = [];
  }
  async resetQueue(queue: number): Promise<void> {
    throw new TransportError('ENOTSUP', `Queue ${queue} is not reset alone`);
  }
  async readConfigBytes(offset: number, out: Uint8Array): Promise<void> {
    this.#present();
    if (this.isConfigBroken) throw new TransportError('EIO', 'the configuration cannot be read');
    out.set(this.config.subarray(offset, offset + out.length));
  }
  async readConfigGeneration(): Promise<number> {
    return 0;
  }
  async writeConfigBytes(): Promise<void> {
    throw new TransportError('ENOTSUP', 'no writable configuration');
  }
  kick(_queue: number): void {
    this.kickCount += 1;
  }
  onCall(queue: number, handler: (() => void) | undefined): void {
    this.#callHandlers[queue] = handler;
  }
  onConfigChange(handler: (() => void) | undefined): void {
    this.#configHandler = handler;
  }
  onGone(handler: ((reason: string) => void) | undefined): void {
    this.#goneHandler = handler;
  }
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isGone = true;
  }

  #present(): void {
    if (this.#isGone) throw new TransportError('ENODEV', 'The device is not there');
  }
}
