import type { CallRouting } from './call-routing.ts';
import type { PciDevice } from './pci-device.ts';

/** The vector registers of one interface: write, and answer whether the vector reads back (§4.1.5.1.2.2). */
export interface VectorRegisters {
  tryConfigVector(vector: number): boolean;
  tryQueueVector(queue: number, vector: number): boolean;
}

/**
 * Maps vectors to the queues in use and to configuration changes. A device that could not map one gets the next mode of its
 * `CallRouting`, for everything that is set up so far, as Linux does; ends at INTx or throws.
 */
export class VectorAssignment {
  readonly #device: PciDevice;
  readonly #routing: CallRouting;
  readonly #registers: VectorRegisters;
  readonly #queuesInUse = new Set<number>();
  #isConfigAssigned = false;

  constructor(device: PciDevice, routing: CallRouting, registers: VectorRegisters) {
    this.#device = device;
    this.#routing = routing;
    this.#registers = registers;
  }

  /** A reset unmaps all vectors. */
  forget(): void {
    this.#isConfigAssigned = false;
    this.#queuesInUse.clear();
  }

  forgetQueue(queue: number): void {
    this.#queuesInUse.delete(queue);
  }

  /** Throws `TransportError`: `ENOTSUP` when no mode is left, `ENODEV`. */
  assignConfig(): void {
    if (this.#isConfigAssigned) return;
    if (!this.#tryConfig()) this.#degrade();
    this.#isConfigAssigned = true;
  }

  /** Throws as `assignConfig`. */
  assignQueue(queue: number): void {
    this.assignConfig();
    this.#queuesInUse.add(queue);
    if (!this.#tryQueue(queue)) this.#degrade();
  }

  #tryConfig(): boolean {
    const { mode, configVector } = this.#routing;
    return mode === 'intx' || this.#registers.tryConfigVector(configVector);
  }

  #tryQueue(queue: number): boolean {
    return (
      this.#routing.mode === 'intx' || this.#registers.tryQueueVector(queue, this.#routing.queueVector(queue))
    );
  }

  #degrade(): void {
    do {
      this.#device.requirePresent();
      this.#routing.degrade();
    } while (!this.#tryConfig() || ![...this.#queuesInUse].every((queue) => this.#tryQueue(queue)));
  }
}
