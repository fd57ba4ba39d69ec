import { VIRTIO_XENBUS_CONFIG_PAGE, VIRTIO_XENBUS_CONFIG_WRITE_SIZE_MAX } from '@virtlab/abi/virtio-xenbus';
import type { MappedArea } from '@virtlab/guest-memory';
import { storeWords, wordCount } from './config-words.ts';

const { offset: AT } = VIRTIO_XENBUS_CONFIG_PAGE;

/** A write that the driver posted, as it was read: once. */
export interface PostedWrite {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/**
 * The configuration page as the device sees it. What it shows is kept here too: of the page only the mailbox is read, and
 * that once.
 */
export class DeviceConfigPage {
  readonly #area: MappedArea;
  readonly #configSize: number;
  readonly #shown: Uint32Array;
  #generation = 0;
  #sequence = 0;

  /** `area` is the page, mapped for writing. */
  constructor(area: MappedArea, configSize: number) {
    this.#area = area;
    this.#configSize = configSize;
    this.#shown = new Uint32Array(wordCount(configSize));
    this.#store(AT.size, configSize);
    this.#store(AT.generation, 0);
    this.#sequence = this.#load(AT.write_sequence);
    this.#store(AT.write_acknowledged, this.#sequence);
  }

  showStatus(status: number): void {
    this.#store(AT.device_status, status);
  }

  /**
   * Shows `config` (`configSize` bytes) under a new generation. Unless `always`, only if it differs from what is shown.
   */
  showConfig(config: Uint8Array, always: boolean): void {
    const words = new Uint32Array(this.#shown.length);
    new Uint8Array(words.buffer).set(config.subarray(0, this.#configSize));
    if (!always && words.every((word, index) => word === this.#shown[index])) return;
    this.#shown.set(words);
    this.#generation = (this.#generation + 2) >>> 0;
    this.#store(AT.generation, this.#generation - 1);
    storeWords(this.#area.region.u32, this.#index(AT.config), words);
    this.#store(AT.generation, this.#generation);
  }

  /** The write that waits in the mailbox; undefined if there is none, `'malformed'` if it is out of bounds. */
  takeWrite(): PostedWrite | 'malformed' | undefined {
    const sequence = this.#load(AT.write_sequence);
    if (sequence === this.#sequence) return undefined;
    this.#sequence = sequence;
    const offset = this.#load(AT.write_offset);
    const size = this.#load(AT.write_size);
    if (size > VIRTIO_XENBUS_CONFIG_WRITE_SIZE_MAX || offset + size > this.#configSize) return 'malformed';
    const at = this.#area.offset + AT.write_data;
    return { offset, bytes: this.#area.region.u8.slice(at, at + size) };
  }

  /** The write taken last is done: its effect can be read back. */
  acknowledgeWrite(): void {
    this.#store(AT.write_acknowledged, this.#sequence);
  }

  #load(at: number): number {
    return Atomics.load(this.#area.region.u32, this.#index(at));
  }

  #store(at: number, value: number): void {
    Atomics.store(this.#area.region.u32, this.#index(at), value);
  }

  #index(at: number): number {
    return (this.#area.offset + at) / 4;
  }
}
