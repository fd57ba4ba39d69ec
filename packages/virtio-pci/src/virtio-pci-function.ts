import type { FeatureBits } from '@virtlab/abi/brands';
import {
  PCI_COMMAND,
  PCI_COMMAND_MASTER,
  PCI_MSIX_CAP,
  PCI_MSIX_FLAGS_ENABLE,
  PCI_MSIX_FLAGS_MASKALL,
} from '@virtlab/abi/pci';
import { VIRTIO_F_NOTIFICATION_DATA, hasFeature } from '@virtlab/abi/virtio';
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
import type { InterfaceKind } from './function-identity.ts';
import {
  type FunctionLayout,
  MODERN_BAR,
  PCI_TRANSPORT_FEATURES,
  type StructurePlace,
  barsOf,
  buildConfigSpace,
  functionLayout,
} from './function-layout.ts';
import { IntxPin } from './intx-pin.ts';
import { KickArea, NO_QUEUE } from './kick-area.ts';
import { LegacyRegisters } from './legacy-registers.ts';
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
  /** MSI-X vectors, 0–2048; with 0 the function has no MSI-X. Default: one a queue and one for configuration changes. */
  readonly vectorCount?: number;
  /**
   * Bytes from one queue's kick address to the next (§4.1.4.4): a power of two from 4 to 65536, such as 4096 for a page each;
   * 0 for one address, where the value written names the queue. Default 4.
   */
  readonly notifyMultiplier?: number;
  /** Default `modern`. The others need a device type that ever had a legacy interface (§4.1.2). */
  readonly interfaceKind?: InterfaceKind;
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
  /** With NOTIFICATION_DATA: what the latest trapped kick of the queue said about its ring (§2.9); 0 before. */
  latestKickData(queue: number): number;
}

/** Throws `RangeError` for a vector count that MSI-X does not have, or a multiplier that no device may have. */
export function createVirtioPciFunction(options: VirtioPciFunctionOptions): VirtioPciFunction {
  return new ModernFunction(options);
}

class ModernFunction implements VirtioPciFunction {
  readonly capabilities: TransportCapabilities;
  readonly transportFeatures: FeatureBits = PCI_TRANSPORT_FEATURES;
  readonly memory: BusMasterMemory;
  readonly bars: readonly PciBar[];

  readonly #model: DeviceModel;
  readonly #layout: FunctionLayout;
  readonly #config: ConfigSpace;
  readonly #msixFlags: number | undefined;
  readonly #window: ConfigWindow | undefined;
  readonly #common: CommonConfig;
  readonly #kicks: KickArea;
  readonly #msix: MsixTable;
  readonly #pin: IntxPin;
  /** Undefined in a function that is modern only. */
  readonly #legacy: LegacyRegisters | undefined;
  readonly #doorbells: Disposable[] = [];
  #msixEnabled = false;
  #kickCount = 0;

  constructor(options: VirtioPciFunctionOptions) {
    const { model } = options;
    const { deviceType, queueCount, configSize } = model;
    const vectorCount = options.vectorCount ?? Math.min(queueCount + 1, VIRTIO_MSI_VECTOR_MAX + 1);
    const msix = new MsixTable(vectorCount, options.msi);
    const kind = options.interfaceKind ?? 'modern';
    const shape = { queueCount, configSize, kind, notifyMultiplier: options.notifyMultiplier ?? 4, msix };
    const layout = functionLayout(shape);
    const places = buildConfigSpace(deviceType, layout, shape, options.intx !== undefined);
    const { config, msixCapability, windowCapability } = places;
    this.#model = model;
    this.memory = new BusMasterMemory(options.memory);
    this.#msix = msix;
    this.#layout = layout;
    this.#config = config;
    this.#pin = new IntxPin(config, options.intx);
    if (msixCapability !== undefined) this.#msixFlags = msixCapability + PCI_MSIX_CAP.offset.flags;
    if (windowCapability !== undefined) this.#window = new ConfigWindow(config, windowCapability, this);
    this.bars = barsOf(layout);
    this.#common = new CommonConfig(model, vectorCount, (status) => this.#statusWritten(status));
    if (kind !== 'modern') this.#legacy = this.#createLegacy();
    this.#kicks = new KickArea(layout.notify, layout.notifyMultiplier, queueCount);
    this.capabilities = {
      name: 'pci',
      queueReset: true,
      configWrite: true,
      callPerQueue: vectorCount > queueCount,
    };
    if (options.doorbells !== undefined) this.#registerDoorbells(options.doorbells);
  }

  get statistics(): VirtioPciStatistics {
    return {
      kickCount: this.#kickCount,
      messageCount: this.#msix.messageCount,
      intxCount: this.#pin.riseCount,
      refusedWriteCount: this.#common.refusedWriteCount,
    };
  }

  notifyAddresses(): readonly NotifyAddress[] {
    return this.#kicks.addresses(MODERN_BAR);
  }

  latestKickData(queue: number): number {
    return this.#kicks.latestData(queue);
  }

  // Towards the bus.

  configRead(offset: number, width: AccessWidth): number {
    if (this.#window?.overlaps(offset, width) === true) this.#window.fetch();
    return this.#config.read(offset, width);
  }

  configWrite(offset: number, width: AccessWidth, value: number): void {
    if (!this.#config.write(offset, width, value)) return;
    if (overlaps(offset, width, PCI_COMMAND, 2)) this.#commandWritten();
    if (this.#msixFlags !== undefined && overlaps(offset, width, this.#msixFlags, 2)) {
      this.#updateInterruptMode();
    }
    if (this.#window?.overlaps(offset, width) === true) this.#window.flush();
  }

  barRead(bar: number, offset: number, width: AccessWidth): number {
    const { common, isr, device, msixBar, modernBar, legacyBar, msixTable, msixPending } = this.#layout;
    if (bar === msixBar?.index) {
      if (contains(msixTable, offset)) return this.#msix.read(offset - msixTable.offset, width);
      return this.#msix.readPending(offset - msixPending.offset, width);
    }
    if (bar === legacyBar?.index) return this.#legacy!.read(offset, width);
    if (bar !== modernBar?.index) return allOnes(width);
    if (contains(common, offset)) return this.#common.read(offset - common.offset, width);
    if (contains(device, offset)) return this.#readDeviceConfig(offset - device.offset, width);
    if (offset === isr.offset && width === 1) return this.#pin.take();
    return allOnes(width);
  }

  barWrite(bar: number, offset: number, width: AccessWidth, value: number): void {
    const { common, device, notify, msixBar, modernBar, legacyBar, msixTable } = this.#layout;
    if (bar === msixBar?.index) {
      if (contains(msixTable, offset)) this.#msix.write(offset - msixTable.offset, width, value);
      return;
    }
    if (bar === legacyBar?.index) this.#legacy!.write(offset, width, value);
    if (bar !== modernBar?.index) return;
    if (contains(notify, offset)) {
      const queue = this.#kicks.queueOf(offset, width, value);
      if (queue !== NO_QUEUE) this.#kick(queue);
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
    this.#pin.raise(VIRTIO_PCI_ISR_QUEUE);
  }

  /** §4.1.4.5.1: the ISR's configuration bit is set with MSI-X too, the queue bit only without. */
  configChanged(): void {
    this.#pin.raise(VIRTIO_PCI_ISR_CONFIG);
    const vector = this.#common.configVector;
    if (this.#msixEnabled && vector !== VIRTIO_MSI_NO_VECTOR) this.#msix.fire(vector);
  }

  /**
   * Nothing to tell: the status is a register that the driver reads. It polls for the end of a reset (§4.1.4.3.2), and
   * DEVICE_NEEDS_RESET is announced as a configuration change (§2.1.2), which the device model asks for.
   */
  statusChanged(): void {}

  /** The driver polls queue_reset (§2.6.1.2); only the queue's registers follow. */
  queueResetDone(queue: number): void {
    this.#common.queueResetDone(queue);
  }

  [Symbol.dispose](): void {
    for (const doorbell of this.#doorbells.splice(0)) doorbell[Symbol.dispose]();
    this.#pin.clear();
  }

  /** A device that may not master the bus does not look at its queues (as QEMU since 4.2, `virtio_set_disabled`). */
  #kick(queue: number): void {
    this.#kickCount++;
    if (this.memory.open) this.#model.kick(queue);
  }

  /** One address for all queues tells nobody which was kicked: those kicks trap. */
  #registerDoorbells(registrar: DoorbellRegistrar): void {
    if (this.#layout.notifyMultiplier === 0 || this.#layout.modernBar === undefined) return;
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
    const flags = this.#msixFlags === undefined ? 0 : this.#config.view.getUint16(this.#msixFlags, true);
    this.#msixEnabled = (flags & PCI_MSIX_FLAGS_ENABLE) !== 0;
    this.#msix.setOpen(this.#msixEnabled && (flags & PCI_MSIX_FLAGS_MASKALL) === 0 && this.memory.open);
    this.#pin.setMsixEnabled(this.#msixEnabled);
  }

  #statusWritten(status: number): void {
    if (status === 0) this.#reset();
    else this.#kicks.hasData = hasFeature(this.#model.driverFeatures, VIRTIO_F_NOTIFICATION_DATA);
  }

  #createLegacy(): LegacyRegisters {
    const common = this.#common;
    return new LegacyRegisters({
      model: this.#model,
      isMsixEnabled: () => this.#msixEnabled,
      vector: (queue) => (queue === 'config' ? common.configVector : common.queueVector(queue)),
      setVector: (queue, vector) => void common.setVector(queue, vector),
      takeIsr: () => this.#pin.take(),
      kick: (queue) => this.#kick(queue),
      reset: () => {
        common.reset();
        this.#reset();
      },
      readConfig: (offset, width) => this.#readDeviceConfig(offset, width),
      writeConfig: (offset, width, value) => this.#writeDeviceConfig(offset, width, value),
    });
  }

  #reset(): void {
    this.#legacy?.reset();
    this.#kicks.forgetData();
    this.#msix.clearPending();
    this.#pin.clear();
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
