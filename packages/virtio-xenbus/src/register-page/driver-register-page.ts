import { VIRTIO_CONFIG_PAGE } from '@virtlab/abi/virtio-xenbus-registers';
import type { MemoryRegion } from '@virtlab/guest-memory';
import { loadBytes, storeBytes } from './access.ts';

const { offset: AT } = VIRTIO_CONFIG_PAGE;

/** The page as the driver sees it. */
export class DriverRegisterPage {
  readonly #u8: Uint8Array;
  readonly #u32: Uint32Array;
  readonly #offset: number;

  /** `offset` is that of the page in `memory`. The page is zero. */
  constructor(memory: MemoryRegion, offset: number) {
    this.#u8 = memory.u8;
    this.#u32 = memory.u32;
    this.#offset = offset;
  }

  /** Whether the device has yet to answer. */
  get isActive(): boolean {
    return Atomics.load(this.#u32, this.#index(AT.be_active)) !== 0;
  }

  /** Asks for an access; the one before must have been answered. The event is the caller's to send. */
  post(isWrite: boolean, offset: number, size: number, value: number): void {
    this.#u32[this.#index(AT.write)] = isWrite ? 1 : 0;
    this.#u32[this.#index(AT.size)] = size;
    this.#u32[this.#index(AT.offset)] = offset;
    if (isWrite) storeBytes(this.#u8, this.#offset + AT.config + offset, size, value);
    Atomics.store(this.#u32, this.#index(AT.be_active), 1);
  }

  /** What the answered access read. */
  answer(offset: number, size: number): number {
    return loadBytes(this.#u8, this.#offset + AT.config + offset, size);
  }

  #index(at: number): number {
    return (this.#offset + at) / 4;
  }
}
