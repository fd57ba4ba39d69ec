import type { FeatureBits } from '@virtlab/abi/brands';
import { VIRTIO_F_RING_PACKED, hasFeature } from '@virtlab/abi/virtio';
import { VIRTIO_XENBUS_ABI_VERSION, VIRTIO_XENBUS_REGISTERS } from '@virtlab/abi/virtio-xenbus-registers';
import type { DeviceModel } from '@virtlab/virtio';
import { type RegisterAccess, type RegisterName, loadBytes, storeBytes } from './access.ts';
import { legacyRing } from './legacy-ring.ts';

const { offset: AT, width: WIDTH } = VIRTIO_XENBUS_REGISTERS;
const CONFIG_END = AT.config + WIDTH.config;
const WORD_MASK = 0xffff_ffffn;
const WORD_BITS = 32n;

const NAMES: ReadonlyMap<number, RegisterName> = new Map(
  Object.entries(AT)
    .filter(([name]) => name !== 'config' && name !== 'reserved')
    .map(([name, offset]) => [offset, name as RegisterName]),
);

/** What the driver wrote of one queue. */
interface QueueRegisters {
  size: number;
  pageNumber: number;
  /** Words of the three areas, low before high. */
  readonly areas: Uint32Array;
}

/**
 * The registers in front of a device model, each access carried out at once. An access that is none (unknown, of another
 * width, a write to what is only read) reads 0 and writes nothing, as on a bus.
 */
export class RegisterFile {
  readonly #model: DeviceModel;
  readonly #queues: readonly QueueRegisters[];
  readonly #bytes = new Uint8Array(4);
  #queueSel = 0;
  #isr = 0;

  constructor(model: DeviceModel) {
    this.#model = model;
    this.#queues = Array.from({ length: model.queueCount }, () => ({
      size: 0,
      pageNumber: 0,
      areas: new Uint32Array(6),
    }));
  }

  /** An interrupt's reason: `VIRTIO_XENBUS_ISR_*`. */
  raise(bit: number): void {
    this.#isr |= bit;
  }

  /** Carries the access out; answers what was read. */
  access({ isWrite, offset, size, value }: RegisterAccess): number {
    if (offset >= AT.config && offset + size <= CONFIG_END)
      return this.#accessConfig(isWrite, offset, size, value);
    const name = NAMES.get(offset);
    if (name === undefined || WIDTH[name] !== size) return 0;
    if (!isWrite) return this.#read(name);
    this.#write(name, value);
    return 0;
  }

  #accessConfig(isWrite: boolean, offset: number, size: number, value: number): number {
    const bytes = this.#bytes.subarray(0, size);
    const at = offset - AT.config;
    if (isWrite) {
      storeBytes(bytes, 0, size, value);
      this.#model.writeConfig(at, bytes.slice());
      return 0;
    }
    this.#model.readConfig(at, bytes);
    return loadBytes(bytes, 0, size);
  }

  #read(name: RegisterName): number {
    const model = this.#model;
    const queue = this.#queues[this.#queueSel];
    switch (name) {
      case 'host_features':
        return lowWord(model.deviceFeatures);
      case 'host_features_high':
        return highWord(model.deviceFeatures);
      case 'guest_features':
        return lowWord(model.driverFeatures);
      case 'guest_features_high':
        return highWord(model.driverFeatures);
      case 'queue_num':
        return model.queueSizeMax(this.#queueSel);
      case 'queue_sel':
        return this.#queueSel;
      case 'queue_pfn':
        return queue?.pageNumber ?? 0;
      case 'queue_size':
        return this.#queueSize();
      case 'queue_enable':
        return model.isQueueEnabled(this.#queueSel) ? 1 : 0;
      case 'queue_notify':
        return 0;
      case 'status':
        return model.status;
      case 'isr':
        return this.#takeIsr();
      case 'abi_version':
        return VIRTIO_XENBUS_ABI_VERSION;
      case 'config_generation':
        return model.configGeneration;
      case 'queue_count':
        return model.queueCount;
      case 'config_size':
        return model.configSize;
      default:
        return queue?.areas[areaWordOf(name)] ?? 0;
    }
  }

  #write(name: RegisterName, value: number): void {
    const queue = this.#queues[this.#queueSel];
    switch (name) {
      case 'guest_features':
        return this.#writeFeatures(WORD_MASK << WORD_BITS, BigInt(value));
      case 'guest_features_high':
        return this.#writeFeatures(WORD_MASK, BigInt(value) << WORD_BITS);
      case 'queue_sel':
        this.#queueSel = value;
        return;
      case 'queue_pfn':
        return this.#writePageNumber(value);
      case 'queue_size':
        if (queue !== undefined) queue.size = value;
        return;
      case 'queue_enable':
        if (value === 1) this.#enable();
        return;
      case 'queue_notify':
        return this.#model.kick(value);
      case 'status':
        return value === 0 ? this.#reset() : this.#model.writeStatus(value);
      case 'host_features':
      case 'host_features_high':
      case 'queue_num':
      case 'isr':
      case 'abi_version':
      case 'config_generation':
      case 'queue_count':
      case 'config_size':
        return;
      default:
        if (queue !== undefined) queue.areas[areaWordOf(name)] = value;
    }
  }

  #writeFeatures(keep: bigint, value: bigint): void {
    const model = this.#model;
    model.writeDriverFeatures((model.driverFeatures & keep) | value);
  }

  /** As in 2011, 0 resets the whole device and not only the queue. */
  #writePageNumber(ref: number): void {
    if (ref === 0) return this.#reset();
    const model = this.#model;
    if (hasFeature(model.driverFeatures, VIRTIO_F_RING_PACKED)) {
      model.refuse({ section: '2.7.2', message: 'A packed ring has no page number' });
      return;
    }
    const isEnabled = model.enableQueue(this.#queueSel, legacyRing(ref, this.#queueSize()));
    const queue = this.#queues[this.#queueSel];
    if (isEnabled && queue !== undefined) queue.pageNumber = ref;
  }

  #enable(): void {
    const areas = this.#queues[this.#queueSel]?.areas;
    this.#model.enableQueue(this.#queueSel, {
      size: this.#queueSize(),
      descriptorArea: addressAt(areas, AREA_WORDS.queue_desc_low),
      driverArea: addressAt(areas, AREA_WORDS.queue_driver_low),
      deviceArea: addressAt(areas, AREA_WORDS.queue_device_low),
    });
  }

  /** What the driver chose; before that the most there can be. */
  #queueSize(): number {
    const chosen = this.#queues[this.#queueSel]?.size ?? 0;
    return chosen === 0 ? this.#model.queueSizeMax(this.#queueSel) : chosen;
  }

  #takeIsr(): number {
    const isr = this.#isr;
    this.#isr = 0;
    return isr;
  }

  #reset(): void {
    this.#queueSel = 0;
    this.#isr = 0;
    for (const queue of this.#queues) {
      queue.size = 0;
      queue.pageNumber = 0;
      queue.areas.fill(0);
    }
    this.#model.writeStatus(0);
  }
}

const AREA_WORDS = {
  queue_desc_low: 0,
  queue_desc_high: 1,
  queue_driver_low: 2,
  queue_driver_high: 3,
  queue_device_low: 4,
  queue_device_high: 5,
} as const;

function areaWordOf(name: keyof typeof AREA_WORDS): number {
  return AREA_WORDS[name];
}

function addressAt(areas: Uint32Array | undefined, low: number): bigint {
  return areas === undefined ? 0n : (BigInt(areas[low + 1]!) << WORD_BITS) | BigInt(areas[low]!);
}

function lowWord(bits: FeatureBits): number {
  return Number(bits & WORD_MASK);
}

function highWord(bits: FeatureBits): number {
  return Number((bits >> WORD_BITS) & WORD_MASK);
}
