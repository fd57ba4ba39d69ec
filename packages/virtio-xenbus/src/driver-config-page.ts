import { VIRTIO_XENBUS_CONFIG_PAGE, VIRTIO_XENBUS_CONFIG_WRITE_SIZE_MAX } from '@virtlab/abi/virtio-xenbus';
import type { MemoryRegion } from '@virtlab/guest-memory';
import { loadWords, wordCount } from './config-words.ts';

const { offset: AT } = VIRTIO_XENBUS_CONFIG_PAGE;

/** The configuration page as the driver sees it: reads under the generation, writes through the mailbox. */
export class DriverConfigPage {
  readonly #u8: Uint8Array;
  readonly #u32: Uint32Array;
  readonly #offset: number;
  #sequence = 0;

  /** `offset` is that of the page in `memory`. The page is zero. */
  constructor(memory: MemoryRegion, offset: number) {
    this.#u8 = memory.u8;
    this.#u32 = memory.u32;
    this.#offset = offset;
  }

  /** Bytes of configuration that the device says it has. */
  get size(): number {
    return this.#load(AT.size);
  }

  /** device_status, kept up to date by the device. Any 32-bit number. */
  get status(): number {
    return this.#load(AT.device_status);
  }

  /** Odd while the device changes its configuration. */
  get generation(): number {
    return this.#load(AT.generation);
  }

  /** Copies `out.length` bytes of configuration, all of one generation; false when it changed meanwhile. */
  read(offset: number, out: Uint8Array): boolean {
    const before = this.generation;
    if (before % 2 !== 0) return false;
    const first = Math.floor(offset / 4);
    const words = loadWords(
      this.#u32,
      this.#index(AT.config) + first,
      wordCount(offset + out.length) - first,
    );
    if (this.generation !== before) return false;
    out.set(new Uint8Array(words.buffer, offset - first * 4, out.length));
    return true;
  }

  /** Whether the device has taken what was posted last. */
  get isWriteTaken(): boolean {
    return this.#load(AT.write_acknowledged) === this.#sequence;
  }

  /** Puts a write into the mailbox, which must be free. The event is the caller's to send. */
  postWrite(offset: number, bytes: Uint8Array): void {
    if (bytes.length > VIRTIO_XENBUS_CONFIG_WRITE_SIZE_MAX)
      throw new RangeError(`${bytes.length} bytes do not fit`);
    this.#u8.set(bytes, this.#offset + AT.write_data);
    this.#u32[this.#index(AT.write_offset)] = offset;
    this.#u32[this.#index(AT.write_size)] = bytes.length;
    this.#sequence = (this.#sequence + 1) >>> 0;
    Atomics.store(this.#u32, this.#index(AT.write_sequence), this.#sequence);
  }

  #load(at: number): number {
    return Atomics.load(this.#u32, this.#index(at));
  }

  #index(at: number): number {
    return (this.#offset + at) / 4;
  }
}
