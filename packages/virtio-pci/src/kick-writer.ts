import { TransportError } from '@virtlab/virtio';
import type { NotifyStructure } from './capabilities.ts';
import type { KickPath } from './doorbells.ts';
import { KICK_DATA_SIZE, KICK_SIZE } from './kick-area.ts';
import type { PciAccess } from './pci-access.ts';

/** Kicks one queue; `data` is the upper half of a kick with NOTIFICATION_DATA (§4.1.5.2). */
export type Kick = (data: number) => void;

/** How a driver kicks: 16-bit writes of the queue's index, 32-bit ones with data, or a doorbell where there is one. */
export class KickWriter {
  /** VIRTIO_F_NOTIFICATION_DATA was negotiated. */
  hasData = false;
  readonly #access: PciAccess;
  readonly #notify: NotifyStructure;
  readonly #paths: KickPath | undefined;

  constructor(access: PciAccess, notify: NotifyStructure, paths: KickPath | undefined) {
    this.#access = access;
    this.#notify = notify;
    this.#paths = paths;
  }

  /** §4.1.4.4.1: with data, structure and multiplier keep kicks aligned to 4; a device that does not cannot be given any. */
  get canCarryData(): boolean {
    const { address, multiplier, size } = this.#notify;
    return address % KICK_DATA_SIZE === 0 && multiplier % KICK_DATA_SIZE === 0 && size >= KICK_DATA_SIZE;
  }

  /**
   * The kick of a queue, `queue_notify_off` being what the device says (§4.1.4.4). A doorbell tells the queue and no data:
   * those are a hint. Throws `TransportError` `EPROTO` for an address outside the structure.
   */
  kickOf(queue: number, notifyOff: number): Kick {
    const { address: base, size, multiplier } = this.#notify;
    const offset = notifyOff * multiplier;
    const width = this.hasData ? KICK_DATA_SIZE : KICK_SIZE;
    if (offset + width > size) {
      throw new TransportError('EPROTO', `Kick offset ${offset} of queue ${queue} is outside ${size} bytes`);
    }
    const address = base + offset;
    const doorbell = this.#paths?.kickFor(address, queue);
    if (doorbell !== undefined) return doorbell;
    const access = this.#access;
    if (!this.hasData) return () => access.memoryWrite(address, KICK_SIZE, queue);
    return (data) => access.memoryWrite(address, KICK_DATA_SIZE, ((data << 16) | queue) >>> 0);
  }
}
