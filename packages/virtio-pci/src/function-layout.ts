import type { FeatureBits } from '@virtlab/abi/brands';
import {
  PCI_CAP_ID_MSIX,
  PCI_CAP_ID_VNDR,
  PCI_CLASS_COMMUNICATION_OTHER,
  PCI_CLASS_DEVICE,
  PCI_CLASS_DISPLAY_OTHER,
  PCI_CLASS_INPUT_OTHER,
  PCI_CLASS_MULTIMEDIA_AUDIO,
  PCI_CLASS_NETWORK_ETHERNET,
  PCI_CLASS_OTHERS,
  PCI_CLASS_STORAGE_OTHER,
  PCI_CLASS_STORAGE_SCSI,
  PCI_CACHE_LINE_SIZE,
  PCI_COMMAND,
  PCI_COMMAND_INTX_DISABLE,
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
  VIRTIO_F_VERSION_1,
  VIRTIO_ID_BLOCK,
  VIRTIO_ID_CONSOLE,
  VIRTIO_ID_FS,
  VIRTIO_ID_GPU,
  VIRTIO_ID_INPUT,
  VIRTIO_ID_NET,
  VIRTIO_ID_SCSI,
  VIRTIO_ID_SOUND,
  VIRTIO_ID_VSOCK,
  featureBit,
} from '@virtlab/abi/virtio';
import {
  VIRTIO_PCI_CAP,
  VIRTIO_PCI_CAP_COMMON_CFG,
  VIRTIO_PCI_CAP_DEVICE_CFG,
  VIRTIO_PCI_CAP_ISR_CFG,
  VIRTIO_PCI_CAP_NOTIFY_CFG,
  VIRTIO_PCI_CAP_PCI_CFG,
  VIRTIO_PCI_CFG_CAP,
  VIRTIO_PCI_DEVICE_ID_BASE,
  VIRTIO_PCI_NOTIFY_CAP,
  VIRTIO_PCI_REVISION_MIN,
  VIRTIO_PCI_SUBSYSTEM_ID_MIN,
  VIRTIO_PCI_VENDOR_ID,
} from '@virtlab/abi/virtio-pci';
import { ConfigSpace } from './config-space.ts';
import type { PciBar } from './pci-function.ts';

/** BAR of the MSI-X structures and BAR of the virtio structures, as QEMU numbers them (hw/virtio/virtio-pci.c). */
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
  readonly msixBar: PciBar;
  readonly modernBar: PciBar;
}

/** QEMU's layout: common, ISR, device and notify structures in pages 0–3 of BAR 4, multiplier 4. */
export function functionLayout(
  queueCount: number,
  configSize: number,
  msix: { readonly tableSize: number; readonly pendingSize: number },
): FunctionLayout {
  const notifyMultiplier = 4;
  const device = { offset: 2 * STRUCTURE_SIZE, size: Math.max(STRUCTURE_SIZE, powerOfTwoCeil(configSize)) };
  const notifyOffset = device.offset + device.size;
  const notify = {
    offset: notifyOffset,
    size: Math.max(STRUCTURE_SIZE, powerOfTwoCeil(queueCount * notifyMultiplier)),
  };
  const pendingOffset = Math.max(PENDING_OFFSET_MIN, msix.tableSize);
  return {
    common: { offset: 0, size: STRUCTURE_SIZE },
    isr: { offset: STRUCTURE_SIZE, size: STRUCTURE_SIZE },
    device,
    notify,
    notifyMultiplier,
    msixTable: { offset: 0, size: msix.tableSize },
    msixPending: { offset: pendingOffset, size: msix.pendingSize },
    msixBar: barOf(MSIX_BAR, Math.max(STRUCTURE_SIZE, pendingOffset + msix.pendingSize), false),
    modernBar: barOf(MODERN_BAR, notify.offset + notify.size, true),
  };
}

/** Offsets in configuration space that the function must watch. */
export interface ConfigSpacePlaces {
  readonly config: ConfigSpace;
  readonly msixCapability: number;
  readonly windowCapability: number;
}

/** Builds header and capability list (§4.1.2, §4.1.4). The list runs from the last capability to the first, as QEMU's. */
export function buildConfigSpace(
  deviceType: number,
  layout: FunctionLayout,
  vectorCount: number,
  hasIntx: boolean,
): ConfigSpacePlaces {
  const config = new ConfigSpace();
  writeHeader(config, deviceType);
  config.view.setUint8(PCI_INTERRUPT_PIN, hasIntx ? INTERRUPT_PIN_A : 0);
  config.defineBar(layout.msixBar);
  config.defineBar(layout.modernBar);
  addStructure(config, VIRTIO_PCI_CAP_COMMON_CFG, layout.common);
  addStructure(config, VIRTIO_PCI_CAP_ISR_CFG, layout.isr);
  addStructure(config, VIRTIO_PCI_CAP_DEVICE_CFG, layout.device);
  const notify = addStructure(config, VIRTIO_PCI_CAP_NOTIFY_CFG, layout.notify, VIRTIO_PCI_NOTIFY_CAP.size);
  const { notify_off_multiplier } = VIRTIO_PCI_NOTIFY_CAP.offset;
  config.view.setUint32(notify + notify_off_multiplier, layout.notifyMultiplier, true);
  const windowCapability = addWindow(config);
  const msixCapability = addMsix(config, layout, vectorCount);
  return { config, msixCapability, windowCapability };
}

function writeHeader(config: ConfigSpace, deviceType: number): void {
  const { view } = config;
  view.setUint16(PCI_VENDOR_ID, VIRTIO_PCI_VENDOR_ID, true);
  view.setUint16(PCI_DEVICE_ID, VIRTIO_PCI_DEVICE_ID_BASE + deviceType, true);
  view.setUint8(PCI_REVISION_ID, VIRTIO_PCI_REVISION_MIN);
  view.setUint16(PCI_CLASS_DEVICE, classes.get(deviceType) ?? PCI_CLASS_OTHERS, true);
  view.setUint16(PCI_SUBSYSTEM_VENDOR_ID, VIRTIO_PCI_VENDOR_ID, true);
  view.setUint16(PCI_SUBSYSTEM_ID, VIRTIO_PCI_SUBSYSTEM_ID_MIN + deviceType, true);
  config.allowWrites(PCI_COMMAND, 2, COMMAND_WRITABLE);
  config.allowWrites(PCI_INTERRUPT_LINE, 1, 0xff);
  config.allowWrites(PCI_CACHE_LINE_SIZE, 1, 0xff);
}

/** PCI §6.2.4: 1 is INTA#. */
const INTERRUPT_PIN_A = 1;
/** There is no I/O BAR, so I/O space stays hardwired to off (PCI §6.2.2). */
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

/** As QEMU classifies its devices (PCI appendix D). */
const classes: ReadonlyMap<number, number> = new Map([
  [VIRTIO_ID_NET, PCI_CLASS_NETWORK_ETHERNET],
  [VIRTIO_ID_BLOCK, PCI_CLASS_STORAGE_SCSI],
  [VIRTIO_ID_CONSOLE, PCI_CLASS_COMMUNICATION_OTHER],
  [VIRTIO_ID_SCSI, PCI_CLASS_STORAGE_SCSI],
  [VIRTIO_ID_GPU, PCI_CLASS_DISPLAY_OTHER],
  [VIRTIO_ID_INPUT, PCI_CLASS_INPUT_OTHER],
  [VIRTIO_ID_VSOCK, PCI_CLASS_COMMUNICATION_OTHER],
  [VIRTIO_ID_SOUND, PCI_CLASS_MULTIMEDIA_AUDIO],
  [VIRTIO_ID_FS, PCI_CLASS_STORAGE_OTHER],
]);

/** §6: a modern device must offer VERSION_1; identity addresses need nothing else. */
export const PCI_TRANSPORT_FEATURES: FeatureBits = featureBit(VIRTIO_F_VERSION_1);

function barOf(index: number, contentSize: number, is64Bit: boolean): PciBar {
  return { index, size: powerOfTwoCeil(contentSize), is64Bit };
}

function powerOfTwoCeil(value: number): number {
  return value <= 1 ? 1 : 2 ** Math.ceil(Math.log2(value));
}
