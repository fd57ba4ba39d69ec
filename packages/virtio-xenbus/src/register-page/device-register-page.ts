import { VIRTIO_CONFIG_PAGE, VIRTIO_XENBUS_REGISTERS } from '@virtlab/abi/virtio-xenbus-registers';
import type { MappedArea } from '@virtlab/guest-memory';
import { type RegisterAccess, loadBytes, storeBytes } from './access.ts';

const { offset: AT } = VIRTIO_CONFIG_PAGE;
const FILE_SIZE = VIRTIO_XENBUS_REGISTERS.size;

/** The page as the device sees it: a request is read once, in full, before anything is made of it. */
export class DeviceRegisterPage {
  readonly #u8: Uint8Array;
  readonly #u32: Uint32Array;
  readonly #offset: number;

  /** `area` is the page, mapped for writing. */
  constructor({ region, offset }: MappedArea) {
    this.#u8 = region.u8;
    this.#u32 = region.u32;
    this.#offset = offset;
  }

  /** The access that waits; undefined if there is none, `'malformed'` if it is not one of 1, 2 or 4 bytes in the file. */
  take(): RegisterAccess | 'malformed' | undefined {
    if (Atomics.load(this.#u32, this.#index(AT.be_active)) === 0) return undefined;
    const isWrite = this.#u32[this.#index(AT.write)]! !== 0;
    const size = this.#u32[this.#index(AT.size)]!;
    const offset = this.#u32[this.#index(AT.offset)]!;
    const isSize = size === 1 || size === 2 || size === 4;
    if (!isSize || offset + size > FILE_SIZE) return 'malformed';
    const value = isWrite ? loadBytes(this.#u8, this.#offset + AT.config + offset, size) : 0;
    return { isWrite, offset, size, value };
  }

  /** The access is done; `value` is what was read. */
  answer({ isWrite, offset, size }: RegisterAccess, value: number): void {
    if (!isWrite) storeBytes(this.#u8, this.#offset + AT.config + offset, size, value);
    Atomics.store(this.#u32, this.#index(AT.be_active), 0);
  }

  #index(at: number): number {
    return (this.#offset + at) / 4;
  }
}
