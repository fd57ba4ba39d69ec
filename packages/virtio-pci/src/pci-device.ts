import { PCI_COMMAND, PCI_VENDOR_ID } from '@virtlab/abi/pci';
import { TransportError } from '@virtlab/virtio';
import { type PciAccess, formatBdf } from './pci-access.ts';
import { type AccessWidth, allOnes } from './pci-function.ts';

const NO_VENDOR = 0xffff;

/**
 * One function as its driver reaches it, with an eye on whether it is still there: a register of a function that left
 * reads all ones, and then so does its vendor id, which no function has (PCI §6.1).
 */
export class PciDevice {
  readonly access: PciAccess;
  readonly bdf: number;
  /** Called at most once. */
  readonly #onGone: (reason: string) => void;
  #goneReason: string | undefined;

  constructor(access: PciAccess, bdf: number, onGone: (reason: string) => void) {
    this.access = access;
    this.bdf = bdf;
    this.#onGone = onGone;
  }

  get isGone(): boolean {
    return this.#goneReason !== undefined;
  }

  markGone(reason: string): void {
    if (this.#goneReason !== undefined) return;
    this.#goneReason = reason;
    this.#onGone(reason);
  }

  /** Looks whether the function is there, and marks it gone if not. Costs one access. */
  noticeAbsence(): void {
    if (this.#goneReason === undefined && this.access.configRead(this.bdf, PCI_VENDOR_ID, 2) === NO_VENDOR) {
      this.markGone(`PCI function ${formatBdf(this.bdf)} does not answer`);
    }
  }

  /** Throws `TransportError` `ENODEV` if the function is not there. Costs one access. */
  requirePresent(): void {
    this.noticeAbsence();
    if (this.#goneReason !== undefined) throw new TransportError('ENODEV', this.#goneReason);
  }

  /** A register in a BAR. Throws `ENODEV` as above; all ones are looked at twice. */
  read(address: number, width: AccessWidth): number {
    const value = this.access.memoryRead(address, width);
    if (value === allOnes(width)) this.requirePresent();
    return value;
  }

  /** Lost if the function is not there. */
  write(address: number, width: AccessWidth, value: number): void {
    this.access.memoryWrite(address, width, value);
  }

  readConfig(offset: number, width: AccessWidth): number {
    const value = this.access.configRead(this.bdf, offset, width);
    if (value === allOnes(width)) this.requirePresent();
    return value;
  }

  writeConfig(offset: number, width: AccessWidth, value: number): void {
    this.access.configWrite(this.bdf, offset, width, value);
  }

  /** Sets and clears bits of the command register (PCI §6.2.2). */
  changeCommand(set: number, clear: number): void {
    this.writeConfig(
      PCI_COMMAND,
      2,
      (this.access.configRead(this.bdf, PCI_COMMAND, 2) | set) & ~clear & 0xffff,
    );
  }
}
