import type { FeatureBits } from '@virtlab/abi/brands';
import {
  VIRTIO_CONFIG_S_NEEDS_RESET,
  VIRTIO_F_VERSION_1,
  VIRTIO_ID_NET,
  featureBit,
} from '@virtlab/abi/virtio';
import { IdentityDmaMapper, type MemoryRegion, memoryRegion } from '@virtlab/guest-memory';
import {
  type DriverLink,
  type DriverTransport,
  type TransportCapabilities,
  TransportError,
} from '@virtlab/virtio';
import type { QueueAddresses } from '@virtlab/vring';
import { RawRing, ScriptedDevice, reachRegion } from '@virtlab/vring/testing';

export interface ScriptedCardOptions {
  readonly features: FeatureBits;
  readonly config: Uint8Array;
  readonly queueSizeMax?: number;
  readonly queueCount?: number;
  readonly deviceType?: number;
  readonly memorySize?: number;
}

const MEMORY_SIZE = 1 << 20;
/** Device address of the memory's first byte: the words of some addresses wrap. */
const BASE = 0x1_fff8_0000n;

const CAPABILITIES: TransportCapabilities = {
  name: 'scripted',
  queueReset: false,
  configWrite: false,
  callPerQueue: true,
};

/**
 * A network card that is all script, as its driver sees it: the transport, and behind it rings that the test writes word
 * by word. For what no honest device does.
 */
export class ScriptedCard implements DriverTransport {
  readonly deviceType: number;
  readonly queueCount: number;
  readonly capabilities: TransportCapabilities = CAPABILITIES;
  readonly link: DriverLink;
  readonly memory: MemoryRegion;
  readonly rings: ScriptedDevice[] = [];
  config: Uint8Array;
  kickCount = 0;
  /** While set, the configuration cannot be read. */
  isConfigBroken = false;
  #isGone = false;
  readonly #dma: IdentityDmaMapper;
  readonly #options: ScriptedCardOptions;
  readonly #callHandlers: ((() => void) | undefined)[] = [];
  readonly #heads: number[][] = [[], []];
  #configHandler: (() => void) | undefined;
  #goneHandler: ((reason: string) => void) | undefined;
  #status = 0;

  constructor(options: ScriptedCardOptions) {
    const region = memoryRegion(new ArrayBuffer(options.memorySize ?? MEMORY_SIZE));
    const dma = new IdentityDmaMapper(region, { baseAddress: BASE });
    this.memory = region;
    this.#dma = dma;
    this.deviceType = options.deviceType ?? VIRTIO_ID_NET;
    this.queueCount = options.queueCount ?? 2;
    this.config = options.config;
    this.#options = options;
    this.link = { transport: this, dma, [Symbol.asyncDispose]: async () => undefined };
  }

  /** Heads that the driver made available on a queue and that were not taken. */
  available(queue: number): number {
    this.#heads[queue]!.push(...this.rings[queue]!.takeAvailable());
    return this.#heads[queue]!.length;
  }

  /** The next head of a queue, and the buffer behind it as bytes of the driver's memory. */
  take(queue: number): { readonly head: number; readonly buffer: Uint8Array } {
    if (this.available(queue) === 0) throw new Error(`nothing is available on queue ${queue}`);
    const head = this.#heads[queue]!.shift()!;
    const { address, size } = this.rings[queue]!.chain(head)[0]!;
    const at = Number(address - BASE);
    return { head, buffer: this.memory.u8.subarray(at, at + size) };
  }

  /** Fills the next receive buffer and says it was used; without a call. */
  receive(bytes: Uint8Array, usedSize: number = bytes.length): void {
    const { head, buffer } = this.take(0);
    buffer.set(bytes);
    this.rings[0]!.use(head, usedSize);
  }

  /** What the driver has lent and not taken back. */
  leaks(): readonly string[] {
    const { lentCount, coherentCount, usedPages } = this.#dma;
    const counts = { shares: lentCount, 'coherent buffers': coherentCount, pages: usedPages };
    return Object.entries(counts).flatMap(([what, count]) => (count === 0 ? [] : [`${count} ${what}`]));
  }

  call(queue: number): void {
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
    this.#status = status;
  }
  async readQueueSizeMax(_queue: number): Promise<number> {
    return this.#options.queueSizeMax ?? 16;
  }
  async enableQueue(queue: number, addresses: QueueAddresses): Promise<void> {
    this.rings[queue] = new ScriptedDevice(new RawRing(addresses, reachRegion(this.memory, BASE)));
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
