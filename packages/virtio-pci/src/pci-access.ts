import type { AccessWidth } from './pci-function.ts';

/** Slots of one bus, functions of one slot (PCI §3.2.2.3.2). */
export const PCI_SLOT_COUNT = 32;
export const PCI_FUNCTION_COUNT = 8;

/**
 * What a driver can do to PCI: one synchronous access at a time, as a CPU does it. Across processes each call is a
 * trap that the device model's process answers before it returns.
 *
 * Nothing throws for what is not there: such reads are all ones, such writes are lost. When the other side died,
 * everything is "not there". `bdf` is `bus << 8 | slot << 3 | function`; addresses are guest-physical, below 2^53.
 */
export interface PciAccess {
  configRead(bdf: number, offset: number, width: AccessWidth): number;
  configWrite(bdf: number, offset: number, width: AccessWidth, value: number): void;
  memoryRead(address: number, width: AccessWidth): number;
  memoryWrite(address: number, width: AccessWidth, value: number): void;
  /**
   * An access of 8 bytes is one trap and reaches the function as its two double words, low one first; misaligned ones are
   * nobody's. Unsigned 64 bits.
   */
  memoryRead64(address: number): bigint;
  memoryWrite64(address: number, value: bigint): void;
  /** I/O space: ports 0 to 0xffff. */
  portRead(port: number, width: AccessWidth): number;
  portWrite(port: number, width: AccessWidth, value: number): void;
  /**
   * The hotplug event of a slot: `onRemoved` is called once when the function leaves (it may have left by surprise),
   * perhaps on the remover's stack. Accesses read all ones by then.
   */
  watchRemoval(bdf: number, onRemoved: () => void): Disposable;
}

/** The routing id of a function on bus 0. Throws `RangeError` for a slot or function number that cannot exist. */
export function pciBdf(slot: number, functionNumber: number = 0): number {
  if (!Number.isInteger(slot) || slot < 0 || slot >= PCI_SLOT_COUNT)
    throw new RangeError(`No PCI slot ${slot}`);
  if (!Number.isInteger(functionNumber) || functionNumber < 0 || functionNumber >= PCI_FUNCTION_COUNT) {
    throw new RangeError(`No PCI function ${functionNumber}`);
  }
  return slot * PCI_FUNCTION_COUNT + functionNumber;
}

/** `00:03.0`, as lspci writes it. */
export function formatBdf(bdf: number): string {
  return `${hexByte(bdf >>> 8)}:${hexByte((bdf >>> 3) & 31)}.${bdf & 7}`;
}

function hexByte(value: number): string {
  return value.toString(16).padStart(2, '0');
}
