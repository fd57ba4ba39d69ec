import {
  VIRTIO_BLK_OUTHDR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_SECTOR_SIZE,
  VIRTIO_BLK_T_IN,
} from '@virtlab/abi/virtio-blk';
import { VIRTIO_NET_HDR_V1 } from '@virtlab/abi/virtio-net';
import type { MemoryRegion } from '@virtlab/guest-memory';
import type { DriverSession } from '@virtlab/virtio';
import type { ForeignClient } from '@virtlab/virtio/conformance';
import { ADD_FULL, type BufferList, createBufferList } from '@virtlab/vring';

/** One type of request: all of it lies in `size` bytes of memory. */
export interface RequestKind {
  readonly size: number;
  /** Fills the memory at `base` and names its parts. `serial` counts the requests. */
  stage(memory: MemoryRegion, base: number, buffers: BufferList, serial: number): void;
  /** What is wrong with the answer, or undefined. */
  check(memory: MemoryRegion, base: number, usedSize: number, serial: number): string | undefined;
}

/** Keeps requests of one kind in flight on one queue. */
export class RequestClient implements ForeignClient {
  readonly faults: string[] = [];
  doneCount = 0;
  readonly #session: DriverSession;
  readonly #queue: number;
  readonly #kind: RequestKind;
  readonly #buffers = createBufferList();
  /** Where each request in flight lies. */
  readonly #bases = new Map<number, number>();
  #serial = 0;

  constructor(session: DriverSession, queue: number, kind: RequestKind) {
    this.#session = session;
    this.#queue = queue;
    this.#kind = kind;
    session.onCall(queue, () => this.collect());
  }

  get pendingCount(): number {
    return this.#bases.size;
  }

  add(): boolean {
    const { dma } = this.#session.link;
    const base = dma.allocate(this.#kind.size);
    this.#buffers.clear();
    this.#kind.stage(dma.memory, base, this.#buffers, this.#serial);
    const status = this.#session.queues[this.#queue]!.add(this.#buffers, this.#serial);
    if (status === 0) {
      this.#bases.set(this.#serial, base);
      this.#serial += 1;
      return true;
    }
    dma.free(base, this.#kind.size);
    if (status === ADD_FULL) return false;
    throw new Error(`add gave ${status}`);
  }

  collect(): void {
    const ring = this.#session.queues[this.#queue]!;
    const { dma } = this.#session.link;
    for (let serial = ring.popUsed(); serial >= 0; serial = ring.popUsed()) {
      const base = this.#bases.get(serial)!;
      const fault = this.#kind.check(dma.memory, base, ring.usedSize, serial);
      if (fault === undefined) this.doneCount += 1;
      else this.faults.push(fault);
      this.#bases.delete(serial);
      dma.free(base, this.#kind.size);
    }
  }

  abandon(): void {
    for (const base of this.#bases.values()) this.#session.link.dma.free(base, this.#kind.size);
    this.#bases.clear();
  }
}

const POISON = 0xa5;
const ENTROPY_SIZE = 64;

/** §5.4.6: a buffer to be filled. That all of it is what it was before is a chance of 2^-512. */
export const ENTROPY_REQUEST: RequestKind = {
  size: ENTROPY_SIZE,
  stage: ({ u8 }, base, buffers) => {
    u8.fill(POISON, base, base + ENTROPY_SIZE);
    buffers.addWritable(base, ENTROPY_SIZE);
  },
  check: ({ u8 }, base, usedSize) => {
    if (usedSize === 0 || usedSize > ENTROPY_SIZE) return `${usedSize} bytes of entropy`;
    const isTouched = u8.subarray(base, base + usedSize).some((byte) => byte !== POISON);
    return isTouched || usedSize < 8 ? undefined : 'nothing was written';
  },
};

/** The disk of the tests: each byte of a sector is its number. */
export function patternDisk(sectorCount: number): Uint8Array {
  return Uint8Array.from({ length: sectorCount * VIRTIO_BLK_SECTOR_SIZE }, (_, at) => at >> 9);
}

const STATUS_SIZE = 1;
const READ_DATA = VIRTIO_BLK_OUTHDR.size;
const READ_STATUS = READ_DATA + VIRTIO_BLK_SECTOR_SIZE;

/** §5.2.6: reads of one sector of `patternDisk(sectorCount)`, in turn. */
export function readRequest(sectorCount: number): RequestKind {
  return {
    size: READ_STATUS + STATUS_SIZE,
    stage: ({ u8 }, base, buffers, serial) => {
      const header = new DataView(u8.buffer, u8.byteOffset + base, VIRTIO_BLK_OUTHDR.size);
      const sector = BigInt(serial % sectorCount);
      VIRTIO_BLK_OUTHDR.write(header, 0, { type: VIRTIO_BLK_T_IN, reserved: 0, sector });
      u8.fill(POISON, base + READ_DATA, base + READ_STATUS + STATUS_SIZE);
      buffers.addReadable(base, VIRTIO_BLK_OUTHDR.size);
      buffers.addWritable(base + READ_DATA, VIRTIO_BLK_SECTOR_SIZE);
      buffers.addWritable(base + READ_STATUS, STATUS_SIZE);
    },
    check: ({ u8 }, base, usedSize, serial) => {
      const status = u8[base + READ_STATUS];
      if (status !== VIRTIO_BLK_S_OK) return `status ${status}`;
      if (usedSize !== VIRTIO_BLK_SECTOR_SIZE + STATUS_SIZE) return `${usedSize} bytes are used`;
      const fill = (serial % sectorCount) & 0xff;
      const data = u8.subarray(base + READ_DATA, base + READ_STATUS);
      return data.every((byte) => byte === fill) ? undefined : `sector ${serial % sectorCount} differs`;
    },
  };
}

const FRAME_SIZE = 60;

/** §5.1.9.2: frames of the smallest size, that nobody is the receiver of. */
export const TRANSMIT_REQUEST: RequestKind = {
  size: VIRTIO_NET_HDR_V1.size + FRAME_SIZE,
  stage: ({ u8 }, base, buffers, serial) => {
    u8.fill(0, base, base + VIRTIO_NET_HDR_V1.size);
    u8.fill(serial, base + VIRTIO_NET_HDR_V1.size, base + VIRTIO_NET_HDR_V1.size + FRAME_SIZE);
    buffers.addReadable(base, VIRTIO_NET_HDR_V1.size + FRAME_SIZE);
  },
  check: (_memory, _base, usedSize) => (usedSize === 0 ? undefined : `${usedSize} bytes are used of a frame`),
};
