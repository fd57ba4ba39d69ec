import type { FeatureBits } from '@virtlab/abi/brands';
import {
  VIRTIO_CONFIG_S_NEEDS_RESET,
  VIRTIO_F_VERSION_1,
  VIRTIO_ID_BLOCK,
  featureBit,
} from '@virtlab/abi/virtio';
import { VIRTIO_BLK_OUTHDR } from '@virtlab/abi/virtio-blk';
import { VRING_DESC_F_WRITE } from '@virtlab/abi/virtio-ring';
import { IdentityDmaMapper, type MemoryRegion, memoryRegion } from '@virtlab/guest-memory';
import {
  type DriverLink,
  type DriverTransport,
  type TransportCapabilities,
  TransportError,
} from '@virtlab/virtio';
import type { QueueAddresses } from '@virtlab/vring';
import { type RawDescriptor, RawRing, ScriptedDevice, reachRegion } from '@virtlab/vring/testing';

export interface ScriptedDiskOptions {
  readonly features: FeatureBits;
  readonly config: Uint8Array;
  readonly queueCount?: number;
  readonly queueSizeMax?: number;
  readonly deviceType?: number;
}

/** A request as it stands in memory. */
export interface SeenRequest {
  readonly head: number;
  readonly type: number;
  readonly sector: bigint;
  readonly descriptors: readonly RawDescriptor[];
}

const MEMORY_SIZE = 4 << 20;
/** Device address of the memory's first byte: the words of some addresses wrap. */
const BASE = 0x1_ffe0_0000n;

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
export class ScriptedDisk implements DriverTransport {
  readonly deviceType: number;
  readonly queueCount: number;
  readonly capabilities: TransportCapabilities = CAPABILITIES;
  readonly link: DriverLink;
  readonly memory: MemoryRegion;
  readonly rings: ScriptedDevice[] = [];
  config: Uint8Array;
  kickCount = 0;
  resetCount = 0;
  /** While set, a reset is never confirmed. */
  isDeaf = false;
  #isGone = false;
  readonly #dma: IdentityDmaMapper;
  readonly #options: ScriptedDiskOptions;
  readonly #view: DataView;
  readonly #callHandlers: ((() => void) | undefined)[] = [];
  #configHandler: (() => void) | undefined;
  #goneHandler: ((reason: string) => void) | undefined;
  #status = 0;

  constructor(options: ScriptedDiskOptions) {
    const region = memoryRegion(new ArrayBuffer(MEMORY_SIZE));
    const dma = new IdentityDmaMapper(region, { baseAddress: BASE });
    this.memory = region;
    this.#dma = dma;
    this.deviceType = options.deviceType ?? VIRTIO_ID_BLOCK;
    this.queueCount = options.queueCount ?? 1;
    this.config = options.config;
    this.#options = options;
    this.#view = new DataView(region.u8.buffer, region.u8.byteOffset, region.size);
    this.link = { transport: this, dma, [Symbol.asyncDispose]: async () => undefined };
  }

  /** Requests made available since the last time. */
  take(queue: number = 0): SeenRequest[] {
    const ring = this.rings[queue]!;
    return ring.takeAvailable().map((head) => {
      const descriptors = ring.chain(head);
      const { type, sector } = VIRTIO_BLK_OUTHDR.read(this.#view, this.at(descriptors[0]!.address));
      return { head, type, sector, descriptors };
    });
  }

  /** Writes the status byte, or not, and a used entry that claims `usedSize`; without a call. */
  use(
    { head, descriptors }: SeenRequest,
    status: number | undefined,
    usedSize?: number,
    queue: number = 0,
  ): void {
    const writable = descriptors.filter(({ flags }) => (flags & VRING_DESC_F_WRITE) !== 0);
    const { address } = writable.at(-1)!;
    if (status !== undefined) this.#view.setUint8(this.at(address), status);
    const size = writable.reduce((sum, descriptor) => sum + descriptor.size, 0);
    this.rings[queue]!.use(head, usedSize ?? size);
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
    this.rings[queue] = new ScriptedDevice(new RawRing(addresses, reachRegion(this.memory, BASE)));
  }
  async readConfigBytes(offset: number, out: Uint8Array): Promise<void> {
    this.#present();
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

  /** Offset in `memory` of a device address. */
  at(address: bigint): number {
    return Number(address - BASE);
  }
}
