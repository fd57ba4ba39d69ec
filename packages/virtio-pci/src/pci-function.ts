/** Bytes of one access to a function. Wider ones reach it in two halves (`PciAccess.memoryRead64`). */
export type AccessWidth = 1 | 2 | 4;

/** What a read that nothing answers returns: the bus floats high (PCI §3.3.3.2.5, master abort). */
export function allOnes(width: AccessWidth): number {
  return width === 1 ? 0xff : width === 2 ? 0xffff : 0xffff_ffff;
}

/** A BAR that a function implements (PCI §6.2.5.1). */
export interface PciBar {
  /** Number of the (first) register, 0–5. */
  readonly index: number;
  /** Bytes; a power of two of at least 16 (4 in I/O space). */
  readonly size: number;
  /** The address takes this register and the next. */
  readonly is64Bit: boolean;
  /** In I/O space. Default: in memory space. */
  readonly isIo?: boolean;
}

/**
 * One PCI function as a bus sees it. Everything is synchronous and total: an access to nothing, or of a width that
 * a register does not have, reads as all ones and writes nothing. Nothing a driver does makes these throw.
 * Values are unsigned.
 */
export interface PciFunction {
  readonly bars: readonly PciBar[];
  configRead(offset: number, width: AccessWidth): number;
  configWrite(offset: number, width: AccessWidth, value: number): void;
  /** `offset` is from the start of the BAR. The bus decides whether the BAR decodes (PCI_COMMAND_MEMORY, PCI_COMMAND_IO). */
  barRead(bar: number, offset: number, width: AccessWidth): number;
  barWrite(bar: number, offset: number, width: AccessWidth, value: number): void;
}

/** Where message-signalled interrupts go: the driver's interrupt controller. Never suspends, ignores nonsense. */
export interface MsiSink {
  send(addressLow: number, addressHigh: number, data: number): void;
}

/** One INTx# pin: level-triggered. Setting the level it has is harmless. */
export interface IntxLine {
  set(level: boolean): void;
}

/** A place in a BAR where a write is a kick. */
export interface NotifyAddress {
  readonly bar: number;
  /** From the start of the BAR. */
  readonly offset: number;
  /** Bytes of the write. */
  readonly size: AccessWidth;
  readonly queue: number;
}

/**
 * Lets a bus route kicks around the trap, as an ioeventfd does: between `register` and disposal the bus may call
 * `onRing` (in the device's context, coalesced, perhaps spuriously, never lost) in place of `barWrite` at that address.
 * A bus that does not care never calls it; `barWrite` always works too.
 */
export interface DoorbellRegistrar {
  register(address: NotifyAddress, onRing: () => void): Disposable;
}
