import { VIRTIO_XENBUS_KEY_DEVICE_QUEUE } from '@virtlab/abi/virtio-xenbus';
import { type XenbusDevice, XenbusError, quote } from '@virtlab/xenbus';
import { deviceQueueKey } from './queue-keys.ts';
import { formatStatusLine, nextSerial, parseStatusLine } from './status-line.ts';

interface Request {
  readonly serial: number;
  readonly resolve: (isEnabled: boolean) => void;
}

/**
 * What a driver asks of single queues of a live device (VIRTIO §2.6.1), one request a queue at a time, each with its
 * serial; the answers are watched from the first request on.
 */
export class QueueRequests {
  readonly #device: XenbusDevice;
  readonly #onNonsense: (message: string) => void;
  readonly #waiting = new Map<number, Request>();
  #serial = 0;
  #watching: Promise<unknown> | undefined;

  constructor(device: XenbusDevice, onNonsense: (message: string) => void) {
    this.#device = device;
    this.#onNonsense = onNonsense;
  }

  /** The line to write, and whether the queue is enabled when it was answered. Throws `TypeError` for one too many. */
  async ask(queue: number, isEnabled: boolean): Promise<{ line: string; answer: Promise<boolean> }> {
    if (this.#waiting.has(queue)) throw new TypeError(`Queue ${queue} is being reset or enabled`);
    this.#serial = nextSerial(this.#serial);
    const { promise, resolve } = Promise.withResolvers<boolean>();
    this.#waiting.set(queue, { serial: this.#serial, resolve });
    const line = formatStatusLine({ serial: this.#serial, status: isEnabled ? 1 : 0 });
    this.#watching ??= this.#device.watchOtherendTree(VIRTIO_XENBUS_KEY_DEVICE_QUEUE, (below) =>
      this.#onAnswer(below),
    );
    await this.#watching;
    return { line, answer: promise };
  }

  /** The device was reset: no queue is enabled, whatever was asked. */
  endAll(): void {
    for (const { resolve } of this.#waiting.values()) resolve(false);
    this.#waiting.clear();
  }

  #onAnswer(below: string): void {
    const queues = /^\d{1,4}$/.test(below) ? [Number(below)] : [...this.#waiting.keys()];
    for (const queue of queues) if (this.#waiting.has(queue)) void this.#read(queue);
  }

  async #read(queue: number): Promise<void> {
    const key = deviceQueueKey(queue);
    let text: string;
    try {
      text = await this.#device.readOtherend(key);
    } catch (error) {
      if (error instanceof XenbusError) return; // not answered yet
      throw error;
    }
    const line = parseStatusLine(text);
    const request = this.#waiting.get(queue);
    if (line === undefined || line.status > 1) this.#onNonsense(`${key} is ${quote(text)}`);
    else if (line.serial === request?.serial) {
      this.#waiting.delete(queue);
      request.resolve(line.status === 1);
    }
  }
}
