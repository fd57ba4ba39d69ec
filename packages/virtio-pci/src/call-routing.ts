import {
  PCI_COMMAND_INTX_DISABLE,
  PCI_INTERRUPT_PIN,
  PCI_MSIX_CAP,
  PCI_MSIX_ENTRY,
  PCI_MSIX_FLAGS_ENABLE,
  PCI_MSIX_FLAGS_MASKALL,
} from '@virtlab/abi/pci';
import { VIRTIO_MSI_NO_VECTOR, VIRTIO_PCI_ISR_CONFIG, VIRTIO_PCI_ISR_QUEUE } from '@virtlab/abi/virtio-pci';
import { TransportError } from '@virtlab/virtio';
import type { MsixStructure } from './capabilities.ts';
import type { InterruptController, InterruptVectors, MsiMessage } from './interrupt-controller.ts';
import type { PciDevice } from './pci-device.ts';
import { allOnes } from './pci-function.ts';

/**
 * How calls arrive, best first: a vector for each queue and one for configuration changes; one for all queues and one
 * for configuration changes; the INTx line and the ISR register.
 */
export type CallMode = 'msix-per-queue' | 'msix-shared' | 'intx';

/** How a function says why it interrupts. */
export interface InterruptRegisters {
  /** Undefined without MSI-X. */
  readonly msix: MsixStructure | undefined;
  /** The ISR status (§4.1.4.5), or all ones. */
  readIsr(): number;
}

const MODES: readonly CallMode[] = ['msix-per-queue', 'msix-shared', 'intx'];
const CONFIG_VECTOR = 0;
const FIRST_QUEUE_VECTOR = 1;

/**
 * Brings a function's interrupts to the handlers of its queues (§4.1.5.3, §4.1.5.4). Owns the vectors or the line, the
 * MSI-X table and its enable bit.
 */
export class CallRouting implements Disposable {
  configHandler: (() => void) | undefined;
  readonly #device: PciDevice;
  readonly #registers: InterruptRegisters;
  readonly #interrupts: InterruptController;
  readonly #queueHandlers: ((() => void) | undefined)[];
  #modeIndex = -1;
  #vectors: InterruptVectors | undefined;
  #line: Disposable | undefined;

  /** Throws `TransportError` `ENOTSUP` when there is no way for the function to interrupt. */
  constructor(
    device: PciDevice,
    registers: InterruptRegisters,
    interrupts: InterruptController,
    queueCount: number,
  ) {
    this.#device = device;
    this.#registers = registers;
    this.#interrupts = interrupts;
    this.#queueHandlers = Array.from({ length: queueCount });
    this.degrade();
  }

  get mode(): CallMode {
    return MODES[this.#modeIndex]!;
  }

  /** The device has as many queues now: begins again with the best mode, before any vector was assigned. Throws as `degrade`. */
  setQueueCount(count: number): void {
    this.#leave();
    this.#queueHandlers.length = count;
    this.#modeIndex = -1;
    this.degrade();
  }

  setQueueHandler(queue: number, handler: (() => void) | undefined): void {
    this.#queueHandlers[queue] = handler;
  }

  /** For config_msix_vector; NO_VECTOR with INTx. */
  get configVector(): number {
    return this.mode === 'intx' ? VIRTIO_MSI_NO_VECTOR : CONFIG_VECTOR;
  }

  /** For queue_msix_vector; NO_VECTOR with INTx. */
  queueVector(queue: number): number {
    if (this.mode === 'intx') return VIRTIO_MSI_NO_VECTOR;
    return this.mode === 'msix-shared' ? FIRST_QUEUE_VECTOR : FIRST_QUEUE_VECTOR + queue;
  }

  /** Goes on to the next mode that can be had; all vectors must then be assigned again. Throws `ENOTSUP` at the end. */
  degrade(): void {
    this.#leave();
    while (this.#modeIndex + 1 < MODES.length) {
      this.#modeIndex++;
      if (this.#enter(this.mode)) return;
    }
    throw new TransportError('ENOTSUP', 'The device has neither enough MSI-X vectors nor an interrupt line');
  }

  /** Stops interrupts; handlers do not run any more. */
  [Symbol.dispose](): void {
    this.#leave();
    this.configHandler = undefined;
    this.#queueHandlers.fill(undefined);
  }

  #enter(mode: CallMode): boolean {
    if (mode === 'intx') return this.#enterIntx();
    const queueVectorCount =
      mode === 'msix-shared' ? Math.min(1, this.#queueHandlers.length) : this.#queueHandlers.length;
    return this.#enterMsix(FIRST_QUEUE_VECTOR + queueVectorCount, mode === 'msix-shared');
  }

  #enterMsix(count: number, isShared: boolean): boolean {
    const { msix } = this.#registers;
    if (msix === undefined || count > msix.vectorCount) return false;
    const vectors = this.#interrupts.allocateVectors(count);
    if (vectors === undefined) return false;
    this.#vectors = vectors;
    vectors.onVector(CONFIG_VECTOR, () => this.configHandler?.());
    for (let vector = FIRST_QUEUE_VECTOR; vector < count; vector++) {
      const queue = vector - FIRST_QUEUE_VECTOR;
      vectors.onVector(vector, isShared ? () => this.#callAllQueues() : () => this.#queueHandlers[queue]?.());
    }
    this.#programTable(msix, vectors.messages);
    return true;
  }

  /** The function stays masked until its table is complete (PCI §6.8.3.2). */
  #programTable(msix: MsixStructure, messages: readonly MsiMessage[]): void {
    const device = this.#device;
    const { offset, size } = PCI_MSIX_ENTRY;
    this.#setMsixFlags(PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
    for (const [index, message] of messages.entries()) {
      const entry = msix.tableAddress + index * size;
      device.write(entry + offset.lower_addr, 4, message.addressLow);
      device.write(entry + offset.upper_addr, 4, message.addressHigh);
      device.write(entry + offset.data, 4, message.data);
      device.write(entry + offset.vector_ctrl, 4, 0);
    }
    this.#setMsixFlags(PCI_MSIX_FLAGS_ENABLE);
  }

  #setMsixFlags(flags: number): void {
    const { msix } = this.#registers;
    if (msix !== undefined) this.#device.writeConfig(msix.capability + PCI_MSIX_CAP.offset.flags, 2, flags);
  }

  #enterIntx(): boolean {
    const device = this.#device;
    if (device.readConfig(PCI_INTERRUPT_PIN, 1) === 0) return false;
    this.#line = this.#interrupts.onLine(device.bdf, () => this.#interrupted());
    if (this.#line === undefined) return false;
    device.changeCommand(0, PCI_COMMAND_INTX_DISABLE);
    return true;
  }

  /** §4.1.5.3: one read of the ISR says what happened and lowers the line. */
  #interrupted(): boolean {
    const bits = this.#registers.readIsr();
    if (bits === allOnes(1)) {
      this.#device.noticeAbsence();
      return false;
    }
    if ((bits & VIRTIO_PCI_ISR_CONFIG) !== 0) this.configHandler?.();
    if ((bits & VIRTIO_PCI_ISR_QUEUE) !== 0) this.#callAllQueues();
    return bits !== 0;
  }

  #callAllQueues(): void {
    for (let queue = 0; queue < this.#queueHandlers.length; queue++) this.#queueHandlers[queue]?.();
  }

  #leave(): void {
    if (this.#vectors !== undefined) this.#setMsixFlags(0);
    if (this.#line !== undefined) this.#device.changeCommand(PCI_COMMAND_INTX_DISABLE, 0);
    this.#vectors?.[Symbol.dispose]();
    this.#line?.[Symbol.dispose]();
    this.#vectors = undefined;
    this.#line = undefined;
  }
}
