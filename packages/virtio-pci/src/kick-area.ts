import type { StructurePlace } from './function-layout.ts';
import type { AccessWidth, NotifyAddress } from './pci-function.ts';

/** Bytes of a kick, and with NOTIFICATION_DATA (§4.1.5.2). */
export const KICK_SIZE = 2;
export const KICK_DATA_SIZE = 4;

/** A write that is no kick. */
export const NO_QUEUE = -1;

/**
 * The notification structure of a device (§4.1.4.4): which queue a write kicks. The address says it, except with a
 * multiplier of 0, where all queues have one address and the value does.
 */
export class KickArea {
  /** VIRTIO_F_NOTIFICATION_DATA was negotiated: a kick is 32 bits wide, and of 16 otherwise. */
  hasData = false;
  readonly #place: StructurePlace;
  readonly #multiplier: number;
  readonly #latestData: Uint16Array;

  constructor(place: StructurePlace, multiplier: number, queueCount: number) {
    this.#place = place;
    this.#multiplier = multiplier;
    this.#latestData = new Uint16Array(queueCount);
  }

  /** The queue, or `NO_QUEUE` for a write that starts between queues' addresses, has another width, or names none. */
  queueOf(offset: number, width: AccessWidth, value: number): number {
    if (width !== (this.hasData ? KICK_DATA_SIZE : KICK_SIZE)) return NO_QUEUE;
    const at = offset - this.#place.offset;
    const queue = this.#multiplier === 0 ? (at === 0 ? value & 0xffff : NO_QUEUE) : at / this.#multiplier;
    if (!Number.isInteger(queue) || queue < 0 || queue >= this.#latestData.length) return NO_QUEUE;
    if (this.hasData) this.#latestData[queue] = value >>> 16;
    return queue;
  }

  /** Upper half of the latest kick with data: where the driver's next request goes (§2.9). A hint; kicks may bypass it. */
  latestData(queue: number): number {
    return this.#latestData[queue] ?? 0;
  }

  forgetData(): void {
    this.hasData = false;
    this.#latestData.fill(0);
  }

  /** For doorbells around the trap: one address a queue. */
  addresses(bar: number): NotifyAddress[] {
    return Array.from(this.#latestData, (_, queue) => ({
      bar,
      offset: this.#place.offset + queue * this.#multiplier,
      size: KICK_SIZE,
      queue,
    }));
  }
}
