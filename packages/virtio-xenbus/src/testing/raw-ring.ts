import {
  VRING_AVAIL,
  VRING_AVAIL_ELEM_SIZE,
  VRING_AVAIL_RING_OFFSET,
  VRING_DESC,
  VRING_USED_ALIGN_SIZE,
  vringAvailSize,
  vringDescSize,
  vringUsedSize,
} from '@virtlab/abi/virtio-ring';
import type { CoherentBuffer, DmaMapper } from '@virtlab/guest-memory';
import type { DriverTransport } from '@virtlab/virtio';

const SIZE = 8;

/** A ring in lent memory, one buffer at a time, written word by word. */
export class RawRing {
  readonly addresses: Parameters<DriverTransport['enableQueue']>[1];
  readonly area: CoherentBuffer;
  readonly #dma: DmaMapper;
  readonly #availOffset: number = vringDescSize(SIZE);
  #availIdx = 0;

  constructor(dma: DmaMapper) {
    const usedOffset = alignUp(this.#availOffset + vringAvailSize(SIZE), VRING_USED_ALIGN_SIZE);
    this.#dma = dma;
    this.area = dma.allocateCoherent(usedOffset + vringUsedSize(SIZE));
    const base = (BigInt(this.area.addressHigh) << 32n) | BigInt(this.area.addressLow);
    this.addresses = {
      size: SIZE,
      descriptorArea: base,
      driverArea: base + BigInt(this.#availOffset),
      deviceArea: base + BigInt(usedOffset),
    };
  }

  /** Makes one device-readable buffer available. */
  add(address: bigint, size: number): void {
    const { u8 } = this.#dma.memory;
    const view = new DataView(u8.buffer, u8.byteOffset + this.area.offset, this.area.size);
    const entry = this.#availIdx % SIZE;
    VRING_DESC.write(view, entry * VRING_DESC.size, { addr: address, len: size, flags: 0, next: 0 });
    view.setUint16(this.#availOffset + VRING_AVAIL_RING_OFFSET + entry * VRING_AVAIL_ELEM_SIZE, entry, true);
    this.#availIdx += 1;
    view.setUint16(this.#availOffset + VRING_AVAIL.offset.idx, this.#availIdx, true);
  }

  /** False while the device holds it. */
  free(): boolean {
    return this.#dma.freeCoherent(this.area);
  }
}

function alignUp(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment;
}
