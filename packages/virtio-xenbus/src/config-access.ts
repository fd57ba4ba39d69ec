import type { AioContext } from '@virtlab/aio';
import { VIRTIO_CONFIG_S_NEEDS_RESET } from '@virtlab/abi/virtio';
import { VIRTIO_XENBUS_CONFIG_WRITE_SIZE_MAX } from '@virtlab/abi/virtio-xenbus';
import type { DriverConfigPage } from './driver-config-page.ts';
import { type Lifeline, sleep } from './lifeline.ts';

/** Reads that may collide with a change before the reader sleeps: a change takes microseconds. */
const READ_TRIES = 64;
const READ_INTERVAL_MS = 1;

/** Device configuration as a driver reads and writes it, through the page and its channel. */
export class ConfigAccess {
  readonly #page: DriverConfigPage;
  readonly #size: number;
  readonly #lifeline: Lifeline;
  readonly #aio: AioContext;
  readonly #send: () => void;
  #writing: Promise<void> = Promise.resolve();
  #taken: PromiseWithResolvers<void> | undefined;
  #seenGeneration: number;
  #seenNeedsReset = false;

  /** `send` rings the configuration channel. */
  constructor(page: DriverConfigPage, size: number, lifeline: Lifeline, aio: AioContext, send: () => void) {
    this.#page = page;
    this.#size = size;
    this.#lifeline = lifeline;
    this.#aio = aio;
    this.#send = send;
    this.#seenGeneration = page.generation;
  }

  async read(offset: number, out: Uint8Array): Promise<void> {
    this.#requireInside(offset, out.length);
    await this.#lifeline.run('Reading the configuration', async (turn) => {
      for (let tries = 1; !this.#page.read(offset, out) && !turn.isOver; tries += 1) {
        if (tries % READ_TRIES === 0) await sleep(this.#aio, READ_INTERVAL_MS);
      }
    });
  }

  /** One after the other, in parts that fit the mailbox; resolves when the device has taken the last. */
  async write(offset: number, bytes: Uint8Array): Promise<void> {
    this.#requireInside(offset, bytes.length);
    const copy = bytes.slice();
    const turn = this.#writing.then(() => this.#writeParts(offset, copy));
    this.#writing = turn.catch(() => {}); // the writer is told; the next one has its own turn
    await turn;
  }

  /** The channel rang. Answers whether the device has something to say: a change, or that it needs reset. */
  handleEvent(): boolean {
    if (this.#page.isWriteTaken) this.#taken?.resolve();
    const { generation } = this.#page;
    const needsReset = (this.#page.status & VIRTIO_CONFIG_S_NEEDS_RESET) !== 0;
    const isNews = generation !== this.#seenGeneration || (needsReset && !this.#seenNeedsReset);
    this.#seenGeneration = generation;
    this.#seenNeedsReset = needsReset;
    return isNews;
  }

  async #writeParts(offset: number, bytes: Uint8Array): Promise<void> {
    const partSize = VIRTIO_XENBUS_CONFIG_WRITE_SIZE_MAX;
    for (let at = 0; at < bytes.length; at += partSize) {
      await this.#lifeline.run('Writing the configuration', async (turn) => {
        await this.#untilTaken();
        if (turn.isOver) return;
        this.#page.postWrite(offset + at, bytes.subarray(at, at + partSize));
        this.#send();
        await this.#untilTaken();
      });
    }
  }

  async #untilTaken(): Promise<void> {
    if (this.#page.isWriteTaken) return;
    this.#taken = Promise.withResolvers<void>();
    await this.#taken.promise;
  }

  #requireInside(offset: number, size: number): void {
    if (Number.isInteger(offset) && offset >= 0 && offset + size <= this.#size) return;
    throw new RangeError(`Configuration bytes ${offset} to ${offset + size} of ${this.#size}`);
  }
}
