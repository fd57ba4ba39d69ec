import type { FeatureBits } from '@virtlab/abi/brands';
import {
  PCI_COMMAND,
  PCI_COMMAND_INTX_DISABLE,
  PCI_COMMAND_MASTER,
  PCI_MSIX_CAP,
  PCI_MSIX_FLAGS_ENABLE,
  PCI_MSIX_FLAGS_MASKALL,
  PCI_STATUS,
  PCI_STATUS_INTERRUPT,
} from '@virtlab/abi/pci';
import {
  VIRTIO_MSI_NO_VECTOR,
  VIRTIO_MSI_VECTOR_MAX,
  VIRTIO_PCI_ISR_CONFIG,
  VIRTIO_PCI_ISR_QUEUE,
} from '@virtlab/abi/virtio-pci';
import type { DeviceMemory } from '@virtlab/guest-memory';
import type { DeviceModel, DeviceTransport, TransportCapabilities } from '@virtlab/virtio';
import { BusMasterMemory } from './bus-master-memory.ts';
import { CommonConfig } from './common-config.ts';
import type { ConfigSpace } from './config-space.ts';
import { ConfigWindow } from './config-window.ts';
import {
  type FunctionLayout,
  MODERN_BAR,
  MSIX_BAR,
  PCI_TRANSPORT_FEATURES,
  type StructurePlace,
  buildConfigSpace,
  functionLayout,
} from './function-layout.ts';
import { MsixTable } from './msix-table.ts';
import {
  type AccessWidth,
  type DoorbellRegistrar,
  type IntxLine,
  type MsiSink,
  type NotifyAddress,
  type PciBar,
  type PciFunction,
  allOnes,
} from './pci-function.ts';

export interface VirtioPciFunctionOptions {
  readonly model: DeviceModel;
  /** The driver's memory. The device reaches it through `VirtioPciFunction.memory`. */
  readonly memory: DeviceMemory;
  readonly msi: MsiSink;
  /** Without a line the function can only interrupt by MSI-X. */
  readonly intx?: IntxLine;
  /** MSI-X vectors, 1–2048. Default: one a queue and one for configuration changes. */
  readonly vectorCount?: number;
  /** Where kicks may be routed around the trap. */
  readonly doorbells?: DoorbellRegistrar;
}

export interface VirtioPciStatistics {
  readonly kickCount: number;
  /** Interrupts: MSI-X messages sent, and times the INTx line went up. */
  readonly messageCount: number;
  readonly intxCount: number;
  /** Register writes that the specification forbids (§4.1.4.3.2). */
  readonly refusedWriteCount: number;
}

/**
 * A modern virtio device on PCI (VIRTIO §4.1): configuration space and BARs towards the bus, `DeviceTransport` towards
 * the device model. Owns neither `model` nor `memory`; disposing withdraws doorbells and lowers the line.
 */
export interface VirtioPciFunction extends PciFunction, DeviceTransport, Disposable {
  /** Where kicks go, one address a queue. */
  notifyAddresses(): readonly NotifyAddress[];
  readonly statistics: VirtioPciStatistics;
}

/** Throws `RangeError` for a vector count that MSI-X does not have. */
export function createVirtioPciFunction(options: VirtioPciFunctionOptions): VirtioPciFunction {
  return new ModernFunction(options);
}

/** Bytes of a kick without NOTIFICATION_DATA (§4.1.5.2). */
const KICK_SIZE = 2;

class ModernFunction implements VirtioPciFunction {
  readonly capabilities: TransportCapabilities;
  readonly transportFeatures: FeatureBits = PCI_TRANSPORT_FEATURES;
  readonly memory: BusMasterMemory;
  readonly bars: readonly PciBar[];

  readonly #model: DeviceModel;
  readonly #intx: IntxLine | undefined;
  readonly #layout: FunctionLayout;
  readonly #config: ConfigSpace;
  readonly #msixFlags: number;
  readonly #window: ConfigWindow;
  readonly #common: CommonConfig;
  readonly #msix: MsixTable;
  readonly #doorbells: Disposable[] = [];
  #isr = 0;
  #intxLevel = false;
  #msixEnabled = false;
  #kickCount = 0;
  #intxCount = 0;

  constructor(options: VirtioPciFunctionOptions) {
    const { model } = options;
    const vectorCount = options.vectorCount ?? Math.min(model.queueCount + 1, VIRTIO_MSI_VECTOR_MAX + 1);
    this.#model = model;
    this.#intx = options.intx;
    this.memory = new BusMasterMemory(options.memory);
    this.#msix = new MsixTable(vectorCount, options.msi);
    this.#layout = functionLayout(model.queueCount, model.configSize, this.#msix);
    const places = buildConfigSpace(model.deviceType, this.#layout, vectorCount, options.intx !== undefined);
    this.#config = places.config;
    this.#msixFlags = places.msixCapability + PCI_MSIX_CAP.offset.flags;
    this.#window = new ConfigWindow(places.config, places.windowCapability, this);
    this.bars = [this.#layout.msixBar, this.#layout.modernBar];
    this.#common = new CommonConfig(model, vectorCount, () => this.#reset());
    this.capabilities = {
      name: 'pci',
      queueReset: false,
      configWrite: true,
      callPerQueue: vectorCount > model.queueCount,
    };
    if (options.doorbells !== undefined) this.#registerDoorbells(options.doorbells);
  }

  get statistics(): VirtioPciStatistics {
    return {
      kickCount: this.#kickCount,
      messageCount: this.#msix.messageCount,
      intxCount: this.#intxCount,
      refusedWriteCount: this.#common.refusedWriteCount,
    };
  }

  notifyAddresses(): readonly NotifyAddress[] {
    const { notify, notifyMultiplier } = this.#layout;
    return Array.from({ length: this.#model.queueCount }, (_, queue) => ({
      bar: MODERN_BAR,
      offset: notify.offset + queue * notifyMultiplier,
      size: KICK_SIZE,
      queue,
    }));
  }

  // Towards the bus.

  configRead(offset: number, width: AccessWidth): number {
    if (overlaps(offset, width, this.#window.dataOffset, this.#window.dataSize)) this.#window.fetch();
    return this.#config.read(offset, width);
  }

  configWrite(offset: number, width: AccessWidth, value: number): void {
    if (!this.#config.write(offset, width, value)) return;
    if (overlaps(offset, width, PCI_COMMAND, 2)) this.#commandWritten();
    if (overlaps(offset, width, this.#msixFlags, 2)) this.#updateInterruptMode();
    if (overlaps(offset, width, this.#window.dataOffset, this.#window.dataSize)) this.#window.flush();
  }

  barRead(bar: number, offset: number, width: AccessWidth): number {
    const { common, isr, device, msixTable, msixPending } = this.#layout;
    if (bar === MSIX_BAR) {
      if (contains(msixTable, offset)) return this.#msix.read(offset - msixTable.offset, width);
      return this.#msix.readPending(offset - msixPending.offset, width);
    }
    if (bar !== MODERN_BAR) return allOnes(width);
    if (contains(common, offset)) return this.#common.read(offset - common.offset, width);
    if (contains(device, offset)) return this.#readDeviceConfig(offset - device.offset, width);
    if (offset === isr.offset && width === 1) return this.#takeIsr();
    return allOnes(width);
  }

  barWrite(bar: number, offset: number, width: AccessWidth, value: number): void {
    const { common, device, notify, notifyMultiplier, msixTable } = this.#layout;
    if (bar === MSIX_BAR) {
      if (contains(msixTable, offset)) this.#msix.write(offset - msixTable.offset, width, value);
      return;
    }
    if (bar !== MODERN_BAR) return;
    if (contains(notify, offset)) {
      // As QEMU, the address alone says which queue (§4.1.4.4); the value would only repeat it.
      const queue = (offset - notify.offset) / notifyMultiplier;
      if (width === KICK_SIZE && queue < this.#model.queueCount && Number.isInteger(queue)) this.#kick(queue);
    } else if (contains(common, offset)) {
      this.#common.write(offset - common.offset, width, value);
    } else if (contains(device, offset)) {
      this.#writeDeviceConfig(offset - device.offset, width, value);
    }
  }

  // Towards the device model.

  call(queue: number): void {
    if (this.#msixEnabled) {
      const vector = this.#common.queueVector(queue);
      if (vector !== VIRTIO_MSI_NO_VECTOR) this.#msix.fire(vector);
      return;
    }
    this.#raiseIsr(VIRTIO_PCI_ISR_QUEUE);
  }

  /** §4.1.4.5.1: the ISR's configuration bit is set with MSI-X too, the queue bit only without. */
  configChanged(): void {
    this.#raiseIsr(VIRTIO_PCI_ISR_CONFIG);
    const vector = this.#common.configVector;
    if (this.#msixEnabled && vector !== VIRTIO_MSI_NO_VECTOR) this.#msix.fire(vector);
  }

  /**
   * Nothing to tell: the status is a register that the driver reads. It polls for the end of a reset (§4.1.4.3.2), and
   * DEVICE_NEEDS_RESET is announced as a configuration change (§2.1.2), which the device model asks for.
   */
  statusChanged(): void {}

  [Symbol.dispose](): void {
    for (const doorbell of this.#doorbells.splice(0)) doorbell[Symbol.dispose]();
    this.#isr = 0;
    this.#updateIntx();
  }

  /** A device that may not master the bus does not look at its queues (as QEMU since 4.2, `virtio_set_disabled`). */
  #kick(queue: number): void {
    this.#kickCount++;
    if (this.memory.open) this.#model.kick(queue);
  }

  #registerDoorbells(registrar: DoorbellRegistrar): void {
    for (const address of this.notifyAddresses()) {
      this.#doorbells.push(registrar.register(address, () => this.#kick(address.queue)));
    }
  }

  #commandWritten(): void {
    const wasOpen = this.memory.open;
    this.memory.open = (this.#config.view.getUint16(PCI_COMMAND, true) & PCI_COMMAND_MASTER) !== 0;
    this.#updateInterruptMode();
    if (!this.memory.open || wasOpen) return;
    // Kicks are not lost: those that came meanwhile were not looked at.
    for (let queue = 0; queue < this.#model.queueCount; queue++) {
      if (this.#model.isQueueEnabled(queue)) this.#model.kick(queue);
    }
  }

  #updateInterruptMode(): void {
    const flags = this.#config.view.getUint16(this.#msixFlags, true);
    this.#msixEnabled = (flags & PCI_MSIX_FLAGS_ENABLE) !== 0;
    this.#msix.setOpen(this.#msixEnabled && (flags & PCI_MSIX_FLAGS_MASKALL) === 0 && this.memory.open);
    this.#updateIntx();
  }

  #raiseIsr(bit: number): void {
    this.#isr |= bit;
    this.#updateIntx();
  }

  /** §4.1.4.5: reading clears, and so lowers the line. */
  #takeIsr(): number {
    const isr = this.#isr;
    this.#isr = 0;
    this.#updateIntx();
    return isr;
  }

  /** §4.1.4.5.1: without MSI-X the PCI status shows whether any ISR bit is set, and the line follows unless disabled. */
  #updateIntx(): void {
    const { view } = this.#config;
    const wanted = this.#isr !== 0 && !this.#msixEnabled;
    const status = view.getUint16(PCI_STATUS, true) & ~PCI_STATUS_INTERRUPT;
    view.setUint16(PCI_STATUS, wanted ? status | PCI_STATUS_INTERRUPT : status, true);
    const level = wanted && (view.getUint16(PCI_COMMAND, true) & PCI_COMMAND_INTX_DISABLE) === 0;
    if (level === this.#intxLevel) return;
    this.#intxLevel = level;
    if (level) this.#intxCount++;
    this.#intx?.set(level);
  }

  #reset(): void {
    this.#isr = 0;
    this.#msix.clearPending();
    this.#updateIntx();
  }

  #readDeviceConfig(offset: number, width: AccessWidth): number {
    const bytes = new Uint8Array(4);
    this.#model.readConfig(offset, bytes.subarray(0, width));
    return new DataView(bytes.buffer).getUint32(0, true);
  }

  #writeDeviceConfig(offset: number, width: AccessWidth, value: number): void {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value, true);
    this.#model.writeConfig(offset, bytes.subarray(0, width));
  }
}

function contains(place: StructurePlace, offset: number): boolean {
  return offset >= place.offset && offset < place.offset + place.size;
}

function overlaps(offset: number, width: number, otherOffset: number, otherWidth: number): boolean {
  return offset < otherOffset + otherWidth && otherOffset < offset + width;
}
