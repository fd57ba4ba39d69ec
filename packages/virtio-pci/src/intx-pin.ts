import { PCI_COMMAND, PCI_COMMAND_INTX_DISABLE, PCI_STATUS, PCI_STATUS_INTERRUPT } from '@virtlab/abi/pci';
import type { ConfigSpace } from './config-space.ts';
import type { IntxLine } from './pci-function.ts';

/**
 * The ISR status (§4.1.4.5) and the INTx# pin that follows it: up while any bit is set, unless MSI-X is enabled or the
 * command register disables the pin. The PCI status register shows the bits' OR either way (PCI §6.2.3).
 */
export class IntxPin {
  /** Times the line went up. */
  riseCount = 0;
  readonly #config: ConfigSpace;
  readonly #line: IntxLine | undefined;
  #isr = 0;
  #isUp = false;
  #msixEnabled = false;

  constructor(config: ConfigSpace, line: IntxLine | undefined) {
    this.#config = config;
    this.#line = line;
  }

  /** Sets a `VIRTIO_PCI_ISR_*` bit. */
  raise(bit: number): void {
    this.#isr |= bit;
    this.update();
  }

  /** §4.1.4.5: reading clears, and so lowers the line. */
  take(): number {
    const isr = this.#isr;
    this.clear();
    return isr;
  }

  clear(): void {
    this.#isr = 0;
    this.update();
  }

  /** A function with MSI-X enabled must not use its pin (PCI §6.8.3.3). */
  setMsixEnabled(enabled: boolean): void {
    this.#msixEnabled = enabled;
    this.update();
  }

  /** To be called when the command register changed, too. */
  update(): void {
    const { view } = this.#config;
    const isWanted = this.#isr !== 0 && !this.#msixEnabled;
    const status = view.getUint16(PCI_STATUS, true) & ~PCI_STATUS_INTERRUPT;
    view.setUint16(PCI_STATUS, isWanted ? status | PCI_STATUS_INTERRUPT : status, true);
    const isUp = isWanted && (view.getUint16(PCI_COMMAND, true) & PCI_COMMAND_INTX_DISABLE) === 0;
    if (isUp === this.#isUp) return;
    this.#isUp = isUp;
    if (isUp) this.riseCount++;
    this.#line?.set(isUp);
  }
}
