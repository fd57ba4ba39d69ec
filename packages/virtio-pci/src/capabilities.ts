import {
  PCI_CAP_ID_MSIX,
  PCI_CAP_ID_VNDR,
  PCI_CAP_LIST_ID,
  PCI_CAP_LIST_NEXT,
  PCI_CAPABILITY_LIST,
  PCI_CFG_SPACE_SIZE,
  PCI_MSIX_CAP,
  PCI_MSIX_ENTRY_SIZE,
  PCI_MSIX_FLAGS_QSIZE,
  PCI_MSIX_TABLE_BIR,
  PCI_MSIX_TABLE_OFFSET,
  PCI_STATUS,
  PCI_STATUS_CAP_LIST,
  PCI_STD_HEADER_SIZEOF,
} from '@virtlab/abi/pci';
import {
  VIRTIO_PCI_CAP,
  VIRTIO_PCI_CAP_COMMON_CFG,
  VIRTIO_PCI_CAP_DEVICE_CFG,
  VIRTIO_PCI_CAP_ISR_CFG,
  VIRTIO_PCI_CAP_NOTIFY_CFG,
  VIRTIO_PCI_CAP_PCI_CFG,
  VIRTIO_PCI_CFG_CAP,
  VIRTIO_PCI_COMMON_CFG_ALIGN_SIZE,
  VIRTIO_PCI_COMMON_CFG_SIZE_1_0,
  VIRTIO_PCI_NOTIFY_ALIGN_SIZE,
  VIRTIO_PCI_NOTIFY_CAP,
} from '@virtlab/abi/virtio-pci';
import { TransportError } from '@virtlab/virtio';
import type { MemoryBar } from './base-address.ts';

/** A structure that a capability describes, inside a placed BAR. */
export interface MappedStructure {
  /** Guest-physical. */
  readonly address: number;
  /** Bytes that can be reached: no more than the BAR has. */
  readonly size: number;
}

export interface NotifyStructure extends MappedStructure {
  readonly multiplier: number;
}

export interface MsixStructure {
  /** Offset of the capability in configuration space. */
  readonly capability: number;
  readonly tableAddress: number;
  readonly vectorCount: number;
}

/** What §4.1.4 requires of a device, and what it may have. */
export interface VirtioStructures {
  readonly common: MappedStructure;
  readonly isr: MappedStructure;
  readonly notify: NotifyStructure;
  /** Absent in devices without configuration. */
  readonly device: MappedStructure | undefined;
  readonly msix: MsixStructure | undefined;
}

/** BARs in which virtio's structures may be, and those in which the MSI-X structures may be. */
export interface UsableBars {
  readonly virtio: readonly MemoryBar[];
  readonly msix: readonly MemoryBar[];
}

/** Reads the function's configuration space, one aligned double word at a time. */
export type ReadConfig = (offset: number) => number;

/** More capabilities than fit: the list has a loop (each takes at least a double word). */
const CAPABILITY_COUNT_MAX: number = (PCI_CFG_SPACE_SIZE - PCI_STD_HEADER_SIZEOF) / 4;

/**
 * Walks the capability list and finds each structure, as a driver that trusts nothing: the first usable capability of
 * a type wins, everything unknown or unusable is ignored (§4.1.4.2).
 *
 * Configuration space is copied once at the start, so what was checked is what is used.
 * Throws `TransportError` (`EPROTO`) when a mandatory structure is missing.
 */
export function findStructures(
  readConfig: ReadConfig,
  bars: readonly MemoryBar[] | UsableBars,
): VirtioStructures {
  const { virtio, msix } = 'virtio' in bars ? bars : { virtio: bars, msix: bars };
  const space = copySpace(readConfig);
  const capabilities = walk(space);
  const find = (type: number, need: StructureNeed): FoundStructure | undefined =>
    firstOf(capabilities, (at) => structureAt(space, at, type, need, virtio));
  const common = find(VIRTIO_PCI_CAP_COMMON_CFG, {
    size: VIRTIO_PCI_COMMON_CFG_SIZE_1_0,
    align: VIRTIO_PCI_COMMON_CFG_ALIGN_SIZE,
  });
  const isr = find(VIRTIO_PCI_CAP_ISR_CFG, { size: 1, align: 1 });
  const device = find(VIRTIO_PCI_CAP_DEVICE_CFG, { size: 1, align: 4 });
  const notify = firstOf(capabilities, (at) => notifyAt(space, at, virtio));
  return {
    common: mandatory(common, 'common configuration'),
    isr: mandatory(isr, 'ISR status'),
    notify: mandatory(notify, 'notification'),
    device,
    msix: firstOf(capabilities, (at) => msixAt(space, at, msix)),
  };
}

/** Offset of the first usable PCI_CFG capability (§4.1.4.9); what its fields say is the driver's to write. */
export function findWindow(readConfig: ReadConfig): number | undefined {
  const space = copySpace(readConfig);
  return walk(space).find((at) => {
    if (space.getUint8(at + PCI_CAP_LIST_ID) !== PCI_CAP_ID_VNDR) return false;
    if (at + VIRTIO_PCI_CFG_CAP.size > PCI_CFG_SPACE_SIZE) return false;
    const { cfg_type, cap_len } = VIRTIO_PCI_CAP.read(space, at);
    return cfg_type === VIRTIO_PCI_CAP_PCI_CFG && cap_len >= VIRTIO_PCI_CFG_CAP.size;
  });
}

/** The first usable MSI-X capability, for who needs nothing else of the list. */
export function findMsix(readConfig: ReadConfig, bars: readonly MemoryBar[]): MsixStructure | undefined {
  const space = copySpace(readConfig);
  return firstOf(walk(space), (at) => msixAt(space, at, bars));
}

function copySpace(readConfig: ReadConfig): DataView {
  const space = new DataView(new ArrayBuffer(PCI_CFG_SPACE_SIZE));
  for (let offset = 0; offset < PCI_CFG_SPACE_SIZE; offset += 4)
    space.setUint32(offset, readConfig(offset), true);
  return space;
}

/** Offsets of capabilities in list order; stops at what cannot be one and where the list closes on itself. */
function walk(space: DataView): number[] {
  if ((space.getUint16(PCI_STATUS, true) & PCI_STATUS_CAP_LIST) === 0) return [];
  const seen: number[] = [];
  // The low two bits of a pointer are reserved (PCI §6.7).
  let at = space.getUint8(PCI_CAPABILITY_LIST) & ~3;
  while (at >= PCI_STD_HEADER_SIZEOF && !seen.includes(at) && seen.length < CAPABILITY_COUNT_MAX) {
    seen.push(at);
    at = space.getUint8(at + PCI_CAP_LIST_NEXT) & ~3;
  }
  return seen;
}

interface StructureNeed {
  readonly size: number;
  readonly align: number;
}

interface FoundStructure extends MappedStructure {
  readonly capabilitySize: number;
}

function structureAt(
  space: DataView,
  at: number,
  type: number,
  need: StructureNeed,
  bars: readonly MemoryBar[],
): FoundStructure | undefined {
  if (space.getUint8(at + PCI_CAP_LIST_ID) !== PCI_CAP_ID_VNDR) return undefined;
  if (at + VIRTIO_PCI_CAP.size > PCI_CFG_SPACE_SIZE) return undefined;
  const cap = VIRTIO_PCI_CAP.read(space, at);
  if (cap.cfg_type !== type) return undefined;
  if (cap.cap_len < VIRTIO_PCI_CAP.size || at + cap.cap_len > PCI_CFG_SPACE_SIZE) return undefined;
  if (cap.offset % need.align !== 0 || cap.length < need.size) return undefined;
  const bar = bars.find(({ index, address }) => index === cap.bar && address !== 0);
  // Offset and length are 32 bits each and their sum is exact, so it cannot wrap.
  if (bar === undefined || cap.offset + need.size > bar.size) return undefined;
  return {
    address: bar.address + cap.offset,
    size: Math.min(cap.length, bar.size - cap.offset),
    capabilitySize: cap.cap_len,
  };
}

/** §4.1.4.4.1: the multiplier is 0 or a power of two from 2 on, so that no kick is misaligned. */
function notifyAt(space: DataView, at: number, bars: readonly MemoryBar[]): NotifyStructure | undefined {
  const need = { size: VIRTIO_PCI_NOTIFY_ALIGN_SIZE, align: VIRTIO_PCI_NOTIFY_ALIGN_SIZE };
  const found = structureAt(space, at, VIRTIO_PCI_CAP_NOTIFY_CFG, need, bars);
  if (found === undefined || found.capabilitySize < VIRTIO_PCI_NOTIFY_CAP.size) return undefined;
  const multiplier = space.getUint32(at + VIRTIO_PCI_NOTIFY_CAP.offset.notify_off_multiplier, true);
  if (multiplier === 1 || (multiplier & (multiplier - 1)) !== 0) return undefined;
  return { address: found.address, size: found.size, multiplier };
}

function msixAt(space: DataView, at: number, bars: readonly MemoryBar[]): MsixStructure | undefined {
  if (
    space.getUint8(at + PCI_CAP_LIST_ID) !== PCI_CAP_ID_MSIX ||
    at + PCI_MSIX_CAP.size > PCI_CFG_SPACE_SIZE
  ) {
    return undefined;
  }
  const cap = PCI_MSIX_CAP.read(space, at);
  const vectorCount = (cap.flags & PCI_MSIX_FLAGS_QSIZE) + 1;
  const offset = (cap.table & PCI_MSIX_TABLE_OFFSET) >>> 0;
  const bar = bars.find(({ index, address }) => index === (cap.table & PCI_MSIX_TABLE_BIR) && address !== 0);
  if (bar === undefined || offset + vectorCount * PCI_MSIX_ENTRY_SIZE > bar.size) return undefined;
  return { capability: at, tableAddress: bar.address + offset, vectorCount };
}

function firstOf<T>(capabilities: readonly number[], usable: (at: number) => T | undefined): T | undefined {
  for (const at of capabilities) {
    const found = usable(at);
    if (found !== undefined) return found;
  }
  return undefined;
}

function mandatory<T>(found: T | undefined, what: string): T {
  if (found === undefined) throw new TransportError('EPROTO', `The device has no usable ${what} capability`);
  return found;
}
