import {
  VRING_USED_ALIGN_SIZE,
  vringAvailSize,
  vringDescSize,
  vringUsedSize,
} from '@virtlab/abi/virtio-ring';

/** Where the parts of a benchmark's ring lie: byte offsets in guest memory. */
export interface RingLayout {
  readonly size: number;
  readonly descriptors: number;
  readonly available: number;
  readonly used: number;
  /** An indirect table for every descriptor. */
  readonly tables: number;
  /** What descriptors point at; touched by nobody. */
  readonly payload: number;
  /** Bytes that memory needs, from 0. */
  readonly memorySize: number;
}

/** Bytes of each buffer. */
export const BUFFER_SIZE = 64;
const PAGE_SIZE = 4096;

/** `base` in bytes, page aligned; `bufferCount` buffers in a request. */
export function ringLayout(size: number, bufferCount: number, base: number): RingLayout {
  const alignUp = (offset: number, alignment: number): number => Math.ceil(offset / alignment) * alignment;
  const available = base + vringDescSize(size);
  const used = alignUp(available + vringAvailSize(size), VRING_USED_ALIGN_SIZE);
  const tables = alignUp(used + vringUsedSize(size), PAGE_SIZE);
  const payload = alignUp(tables + size * vringDescSize(bufferCount), PAGE_SIZE);
  const memorySize = alignUp(payload + bufferCount * BUFFER_SIZE, PAGE_SIZE);
  return { size, descriptors: base, available, used, tables, payload, memorySize };
}
