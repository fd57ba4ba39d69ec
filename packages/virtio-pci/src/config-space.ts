import {
  PCI_BASE_ADDRESS_0,
  PCI_BASE_ADDRESS_MEM_PREFETCH,
  PCI_BASE_ADDRESS_MEM_TYPE_64,
  PCI_BASE_ADDRESS_SPACE_IO,
  PCI_CAP_LIST_NEXT,
  PCI_CAPABILITY_LIST,
  PCI_CFG_SPACE_SIZE,
  PCI_STATUS,
  PCI_STATUS_CAP_LIST,
  PCI_STD_HEADER_SIZEOF,
} from '@virtlab/abi/pci';
import { type AccessWidth, type PciBar, allOnes } from './pci-function.ts';

const BAR_REGISTER_SIZE = 4;

/**
 * The 256 bytes of conventional configuration space: a value and, for each bit, whether the driver may write it
 * (PCI §6.1). What a write means beyond storing bits is for the owner to see afterwards.
 */
export class ConfigSpace {
  /** For the owner, which may change what the driver may not. */
  readonly view: DataView = new DataView(new ArrayBuffer(PCI_CFG_SPACE_SIZE));
  readonly #bytes = new Uint8Array(this.view.buffer);
  readonly #writable = new DataView(new ArrayBuffer(PCI_CFG_SPACE_SIZE));
  #capabilitiesEnd = PCI_STD_HEADER_SIZEOF;

  read(offset: number, width: AccessWidth): number {
    if (!isInside(offset, width)) return allOnes(width);
    return load(this.view, offset, width);
  }

  /** False when there was nothing to write to. */
  write(offset: number, width: AccessWidth, value: number): boolean {
    if (!isInside(offset, width)) return false;
    const writable = load(this.#writable, offset, width);
    const kept = load(this.view, offset, width) & ~writable;
    store(this.view, offset, width, (kept | (value & writable)) >>> 0);
    return true;
  }

  /** Sets the bits at `offset` that the driver may write. */
  allowWrites(offset: number, width: AccessWidth, mask: number): void {
    store(this.#writable, offset, width, mask);
  }

  /**
   * A BAR answers the sizing protocol by itself (PCI §6.2.5.1): the address bits below its size are not writable,
   * so all ones written read back as the complement of the size.
   */
  defineBar({ index, size, is64Bit, isIo }: PciBar): void {
    const offset = barOffset(index);
    const memory = is64Bit ? PCI_BASE_ADDRESS_MEM_TYPE_64 | PCI_BASE_ADDRESS_MEM_PREFETCH : 0;
    const type = isIo === true ? PCI_BASE_ADDRESS_SPACE_IO : memory;
    this.view.setUint32(offset, type, true);
    this.allowWrites(offset, 4, ~(size - 1) >>> 0);
    if (is64Bit) this.allowWrites(barOffset(index + 1), 4, 0xffff_ffff);
  }

  /** Reserves `size` bytes behind the last capability and puts them at the front of the list; returns the offset. */
  addCapability(id: number, size: number): number {
    const at = this.#capabilitiesEnd;
    if (at + size > PCI_CFG_SPACE_SIZE)
      throw new RangeError(`No room for a capability of ${size} bytes at ${at}`);
    this.#capabilitiesEnd = Math.ceil((at + size) / 4) * 4;
    this.view.setUint8(at, id);
    this.view.setUint8(at + PCI_CAP_LIST_NEXT, this.view.getUint8(PCI_CAPABILITY_LIST));
    this.view.setUint8(PCI_CAPABILITY_LIST, at);
    this.view.setUint16(PCI_STATUS, this.view.getUint16(PCI_STATUS, true) | PCI_STATUS_CAP_LIST, true);
    return at;
  }

  /** A copy, for inspection. */
  snapshot(): Uint8Array {
    return this.#bytes.slice();
  }
}

/** Offset of a BAR's register in configuration space. */
export function barOffset(index: number): number {
  return PCI_BASE_ADDRESS_0 + index * BAR_REGISTER_SIZE;
}

function isInside(offset: number, width: AccessWidth): boolean {
  return offset >= 0 && offset + width <= PCI_CFG_SPACE_SIZE && Number.isInteger(offset);
}

function load(view: DataView, offset: number, width: AccessWidth): number {
  if (width === 1) return view.getUint8(offset);
  return width === 2 ? view.getUint16(offset, true) : view.getUint32(offset, true);
}

function store(view: DataView, offset: number, width: AccessWidth, value: number): void {
  if (width === 1) view.setUint8(offset, value);
  else if (width === 2) view.setUint16(offset, value, true);
  else view.setUint32(offset, value, true);
}
