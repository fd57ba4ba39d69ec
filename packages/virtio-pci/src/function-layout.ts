import type { FeatureBits } from '@virtlab/abi/brands';
import {
  PCI_CAP_ID_MSIX,
  PCI_CAP_ID_VNDR,
  PCI_CACHE_LINE_SIZE,
  PCI_CLASS_DEVICE,
  PCI_COMMAND,
  PCI_COMMAND_INTX_DISABLE,
  PCI_COMMAND_IO,
  PCI_COMMAND_MASTER,
  PCI_COMMAND_MEMORY,
  PCI_COMMAND_PARITY,
  PCI_COMMAND_SERR,
  PCI_DEVICE_ID,
  PCI_INTERRUPT_LINE,
  PCI_INTERRUPT_PIN,
  PCI_MSIX_CAP,
  PCI_MSIX_FLAGS_ENABLE,
  PCI_MSIX_FLAGS_MASKALL,
  PCI_REVISION_ID,
  PCI_SUBSYSTEM_ID,
  PCI_SUBSYSTEM_VENDOR_ID,
  PCI_VENDOR_ID,
} from '@virtlab/abi/pci';
import {
  VIRTIO_F_NOTIFICATION_DATA,
  VIRTIO_F_RING_RESET,
  VIRTIO_F_VERSION_1,
  featureBits,
} from '@virtlab/abi/virtio';
import {
  VIRTIO_PCI_CAP,
  VIRTIO_PCI_CAP_COMMON_CFG,
  VIRTIO_PCI_CAP_DEVICE_CFG,
  VIRTIO_PCI_CAP_ISR_CFG,
  VIRTIO_PCI_CAP_NOTIFY_CFG,
  VIRTIO_PCI_CAP_PCI_CFG,
  VIRTIO_PCI_CFG_CAP,
  VIRTIO_PCI_CONFIG_OFF,
  VIRTIO_PCI_NOTIFY_CAP,
  VIRTIO_PCI_VENDOR_ID,
} from '@virtlab/abi/virtio-pci';
import { ConfigSpace } from './config-space.ts';
import { type InterfaceKind, classOf, identityOf } from './function-identity.ts';
import type { PciBar } from './pci-function.ts';

/** BARs of the legacy registers, the MSI-X structures and the virtio structures, as QEMU numbers them. */
export const LEGACY_BAR = 0;
export const MSIX_BAR = 1;
export const MODERN_BAR = 4;

/** One page for each structure, so that a driver can map each alone (QEMU's choice). */
const STRUCTURE_SIZE = 0x1000;
/** The pending bits start in the middle of the BAR, or behind the table if that is longer (QEMU hw/pci/msix.c). */
const PENDING_OFFSET_MIN: number = STRUCTURE_SIZE / 2;

/** A structure of §4.1.4 in the modern BAR. */
export interface StructurePlace {
  readonly offset: number;
  readonly size: number;
}

/** Where everything of one function is. Sizes in bytes, offsets from the start of the BAR. */
export interface FunctionLayout {
  readonly common: StructurePlace;
  readonly isr: StructurePlace;
  readonly device: StructurePlace;
  readonly notify: StructurePlace;
  /** Distance of two queues' kick addresses. */
  readonly notifyMultiplier: number;
  readonly msixTable: StructurePlace;
  readonly msixPending: StructurePlace;
  /** Absent without MSI-X, without the modern interface, without the legacy one. */
  readonly msixBar: PciBar | undefined;
  readonly modernBar: PciBar | undefined;
  readonly legacyBar: PciBar | undefined;
}

export interface FunctionShape {
  readonly queueCount: number;
  readonly configSize: number;
  readonly kind: InterfaceKind;
  /** §4.1.4.4.1: 0, or a power of two; a multiple of 4 because NOTIFICATION_DATA is offered. */
  readonly notifyMultiplier: number;
  readonly msix: {
    readonly vectorCount: number;
    readonly tableSize: number;
    readonly pendingSize: number;
  };
}

/**
 * QEMU's layout: common, ISR, device and notify structures in pages 0–3 of BAR 4. Throws `RangeError` for a multiplier that
 * no device may have.
 */
export function functionLayout(shape: FunctionShape): FunctionLayout {
  const { queueCount, configSize, kind, notifyMultiplier, msix } = shape;
  if (
    !Number.isInteger(notifyMultiplier) ||
    notifyMultiplier < 0 ||
    notifyMultiplier > NOTIFY_MULTIPLIER_MAX ||
    notifyMultiplier % 4 !== 0 ||
    (notifyMultiplier & (notifyMultiplier - 1)) !== 0
  ) {
    throw new RangeError(`Notify multiplier ${notifyMultiplier} is neither 0 nor a power of two from 4 on`);
  }
  const device = { offset: 2 * STRUCTURE_SIZE, size: Math.max(STRUCTURE_SIZE, powerOfTwoCeil(configSize)) };
  const notifyOffset = device.offset + device.size;
  const notify = {
    offset: notifyOffset,
    size: Math.max(STRUCTURE_SIZE, powerOfTwoCeil(queueCount * notifyMultiplier)),
  };
  const pendingOffset = Math.max(PENDING_OFFSET_MIN, msix.tableSize);
  const legacySize = VIRTIO_PCI_CONFIG_OFF(true) + configSize;
  return {
    common: { offset: 0, size: STRUCTURE_SIZE },
    isr: { offset: STRUCTURE_SIZE, size: STRUCTURE_SIZE },
    device,
    notify,
    notifyMultiplier,
    msixTable: { offset: 0, size: msix.tableSize },
    msixPending: { offset: pendingOffset, size: msix.pendingSize },
    msixBar:
      msix.vectorCount === 0
        ? undefined
        : barOf(MSIX_BAR, Math.max(STRUCTURE_SIZE, pendingOffset + msix.pendingSize), false),
    modernBar: kind === 'legacy' ? undefined : barOf(MODERN_BAR, notify.offset + notify.size, true),
    legacyBar: kind === 'modern' ? undefined : { ...barOf(LEGACY_BAR, legacySize, false), isIo: true },
  };
}

/** A page for each queue, of the largest pages a processor of today has. */
const NOTIFY_MULTIPLIER_MAX = 0x10000;

/** Offsets in configuration space that the function must watch. */
export interface ConfigSpacePlaces {
  readonly config: ConfigSpace;
  /** Undefined without MSI-X. */
  readonly msixCapability: number | undefined;
  /** Undefined without the modern interface. */
  readonly windowCapability: number | undefined;
}

/** Builds header and capability list (§4.1.2, §4.1.4). The list runs from the last capability to the first, as QEMU's. */
export function buildConfigSpace(
  deviceType: number,
  layout: FunctionLayout,
  shape: FunctionShape,
  hasIntx: boolean,
): ConfigSpacePlaces {
  const config = new ConfigSpace();
  writeHeader(config, deviceType, shape.kind);
  config.view.setUint8(PCI_INTERRUPT_PIN, hasIntx ? INTERRUPT_PIN_A : 0);
  for (const bar of barsOf(layout)) config.defineBar(bar);
  const windowCapability = shape.kind === 'legacy' ? undefined : addVirtioCapabilities(config, layout);
  const { vectorCount } = shape.msix;
  const msixCapability = vectorCount === 0 ? undefined : addMsix(config, layout, vectorCount);
  return { config, msixCapability, windowCapability };
}

export function barsOf({ legacyBar, msixBar, modernBar }: FunctionLayout): PciBar[] {
  return [legacyBar, msixBar, modernBar].filter((bar) => bar !== undefined);
}

/** The window's offset. */
function addVirtioCapabilities(config: ConfigSpace, layout: FunctionLayout): number {
  addStructure(config, VIRTIO_PCI_CAP_COMMON_CFG, layout.common);
  addStructure(config, VIRTIO_PCI_CAP_ISR_CFG, layout.isr);
  addStructure(config, VIRTIO_PCI_CAP_DEVICE_CFG, layout.device);
  const notify = addStructure(config, VIRTIO_PCI_CAP_NOTIFY_CFG, layout.notify, VIRTIO_PCI_NOTIFY_CAP.size);
  const { notify_off_multiplier } = VIRTIO_PCI_NOTIFY_CAP.offset;
  config.view.setUint32(notify + notify_off_multiplier, layout.notifyMultiplier, true);
  return addWindow(config);
}

function writeHeader(config: ConfigSpace, deviceType: number, kind: InterfaceKind): void {
  const { view } = config;
  const { deviceId, revisionId, subsystemId } = identityOf(deviceType, kind);
  view.setUint16(PCI_VENDOR_ID, VIRTIO_PCI_VENDOR_ID, true);
  view.setUint16(PCI_DEVICE_ID, deviceId, true);
  view.setUint8(PCI_REVISION_ID, revisionId);
  view.setUint16(PCI_CLASS_DEVICE, classOf(deviceType), true);
  view.setUint16(PCI_SUBSYSTEM_VENDOR_ID, VIRTIO_PCI_VENDOR_ID, true);
  view.setUint16(PCI_SUBSYSTEM_ID, subsystemId, true);
  // PCI §6.2.2: a space in which the function has nothing stays off.
  const space = kind === 'modern' ? 0 : PCI_COMMAND_IO;
  config.allowWrites(PCI_COMMAND, 2, COMMAND_WRITABLE | space);
  config.allowWrites(PCI_INTERRUPT_LINE, 1, 0xff);
  config.allowWrites(PCI_CACHE_LINE_SIZE, 1, 0xff);
}

/** PCI §6.2.4: 1 is INTA#. */
const INTERRUPT_PIN_A = 1;
const COMMAND_WRITABLE: number =
  PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY | PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE;

function addStructure(
  config: ConfigSpace,
  type: number,
  place: StructurePlace,
  size: number = VIRTIO_PCI_CAP.size,
): number {
  const { offset } = VIRTIO_PCI_CAP;
  const at = config.addCapability(PCI_CAP_ID_VNDR, size);
  config.view.setUint8(at + offset.cap_len, size);
  config.view.setUint8(at + offset.cfg_type, type);
  config.view.setUint8(at + offset.bar, MODERN_BAR);
  config.view.setUint32(at + offset.offset, place.offset, true);
  config.view.setUint32(at + offset.length, place.size, true);
  return at;
}

/** §4.1.4.9: bar, offset, length and data are the driver's to write. */
function addWindow(config: ConfigSpace): number {
  const { offset } = VIRTIO_PCI_CFG_CAP;
  const at = addStructure(config, VIRTIO_PCI_CAP_PCI_CFG, { offset: 0, size: 0 }, VIRTIO_PCI_CFG_CAP.size);
  config.view.setUint8(at + offset.bar, 0);
  config.allowWrites(at + offset.bar, 1, 0xff);
  config.allowWrites(at + offset.offset, 4, 0xffff_ffff);
  config.allowWrites(at + offset.length, 4, 0xffff_ffff);
  config.allowWrites(at + offset.pci_cfg_data, 4, 0xffff_ffff);
  return at;
}

function addMsix(config: ConfigSpace, layout: FunctionLayout, vectorCount: number): number {
  const { offset } = PCI_MSIX_CAP;
  const at = config.addCapability(PCI_CAP_ID_MSIX, PCI_MSIX_CAP.size);
  config.view.setUint16(at + offset.flags, vectorCount - 1, true);
  config.view.setUint32(at + offset.table, layout.msixTable.offset | MSIX_BAR, true);
  config.view.setUint32(at + offset.pba, layout.msixPending.offset | MSIX_BAR, true);
  config.allowWrites(at + offset.flags, 2, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
  return at;
}

/** §6: a modern device must offer VERSION_1; identity addresses need no ACCESS_PLATFORM. */
export const PCI_TRANSPORT_FEATURES: FeatureBits = featureBits(
  VIRTIO_F_VERSION_1,
  VIRTIO_F_NOTIFICATION_DATA,
  VIRTIO_F_RING_RESET,
);

function barOf(index: number, contentSize: number, is64Bit: boolean): PciBar {
  return { index, size: powerOfTwoCeil(contentSize), is64Bit };
}

function powerOfTwoCeil(value: number): number {
  return value <= 1 ? 1 : 2 ** Math.ceil(Math.log2(value));
}
