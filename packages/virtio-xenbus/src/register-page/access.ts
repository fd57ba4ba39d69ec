import type { VIRTIO_XENBUS_REGISTERS } from '@virtlab/abi/virtio-xenbus-registers';

/** One access to the register file, as it stands in the page. */
export interface RegisterAccess {
  readonly isWrite: boolean;
  /** In the register file. */
  readonly offset: number;
  /** 1, 2 or 4 bytes. */
  readonly size: number;
  /** What is written; of a read nothing. */
  readonly value: number;
}

/** A register by its name in the layout; those of device configuration are not named. */
export type RegisterName = Exclude<keyof typeof VIRTIO_XENBUS_REGISTERS.offset, 'config' | 'reserved'>;

/** Unsigned little-endian number of `size` bytes; each byte is read once. */
export function loadBytes(from: Uint8Array, at: number, size: number): number {
  let value = 0;
  for (let index = size - 1; index >= 0; index -= 1) value = value * 256 + from[at + index]!;
  return value;
}

export function storeBytes(to: Uint8Array, at: number, size: number, value: number): void {
  for (let index = 0; index < size; index += 1) to[at + index] = value >>> (8 * index);
}
