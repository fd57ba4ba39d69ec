import { VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_VERSION_1, featureBits } from '@virtlab/abi/virtio';
import {
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
} from '@virtlab/abi/virtio';
import {
  VRING_AVAIL,
  VRING_AVAIL_ELEM_SIZE,
  VRING_AVAIL_RING_OFFSET,
  VRING_DESC,
  VRING_USED,
  vringAvailSize,
  vringDescSize,
  vringUsedSize,
} from '@virtlab/abi/virtio-ring';
import type { FeatureBits } from '@virtlab/abi/brands';
import type { CoherentBuffer, DmaMapper } from '@virtlab/guest-memory';
import type { QueueAddresses } from '@virtlab/vring';
import type { Bench } from './bench.ts';

export const STATUS_DRIVER: number = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;
export const STATUS_FEATURES_OK: number = STATUS_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK;
export const STATUS_DRIVER_OK: number = STATUS_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK;

/** What every driver must accept, if offered. */
export const BASE_FEATURES: FeatureBits = featureBits(VIRTIO_F_VERSION_1, VIRTIO_F_ACCESS_PLATFORM);

/** Resets and negotiates, up to FEATURES_OK, with `features` of those offered. */
export async function negotiateRaw(
  bench: Pick<Bench, 'writeStatuses' | 'run' | 'transport'>,
  features: FeatureBits = 0n,
): Promise<void> {
  await bench.writeStatuses(0, VIRTIO_CONFIG_S_ACKNOWLEDGE, STATUS_DRIVER);
  const offered = await bench.run(bench.transport.readDeviceFeatures());
  await bench.run(bench.transport.writeDriverFeatures(offered & (features | BASE_FEATURES)));
  await bench.writeStatuses(STATUS_FEATURES_OK);
}

/** A ring in lent memory, written word by word, as a driver would that has no scruples. */
export class RawQueue {
  readonly size: number;
  readonly addresses: QueueAddresses;
  readonly bufferFlags: number;
  readonly #dma: DmaMapper;
  readonly #area: CoherentBuffer;
  readonly #availOffset: number;

  /** `bufferFlags`: of the buffers that nothing else is said of (`VRING_DESC_F_WRITE` where the device fills them). */
  constructor(dma: DmaMapper, size: number, bufferFlags: number = 0) {
    this.bufferFlags = bufferFlags;
    const availOffset = vringDescSize(size);
    const usedOffset = (availOffset + vringAvailSize(size) + 7) & ~7;
    this.size = size;
    this.#dma = dma;
    this.#availOffset = availOffset;
    this.#area = dma.allocateCoherent(usedOffset + vringUsedSize(size));
    const base = (BigInt(this.#area.addressHigh) << 32n) | BigInt(this.#area.addressLow);
    this.addresses = {
      size,
      descriptorArea: base,
      driverArea: base + BigInt(availOffset),
      deviceArea: base + BigInt(usedOffset),
    };
  }

  /** Device address of the memory behind the ring itself; lent, so a legal place for a buffer. */
  get address(): bigint {
    return this.addresses.descriptorArea;
  }

  descriptor(index: number, fields: { addr: bigint; len: number; flags: number; next: number }): void {
    const view = this.#view(index * VRING_DESC.size, VRING_DESC.size);
    view.setBigUint64(VRING_DESC.offset.addr, fields.addr, true);
    view.setUint32(VRING_DESC.offset.len, fields.len, true);
    view.setUint16(VRING_DESC.offset.flags, fields.flags, true);
    view.setUint16(VRING_DESC.offset.next, fields.next, true);
  }

  availableEntry(index: number, head: number): void {
    const at = this.#availOffset + VRING_AVAIL_RING_OFFSET + index * VRING_AVAIL_ELEM_SIZE;
    this.#view(at, VRING_AVAIL_ELEM_SIZE).setUint16(0, head, true);
  }

  availableIndex(value: number): void {
    this.#view(this.#availOffset, VRING_AVAIL.size).setUint16(VRING_AVAIL.offset.idx, value, true);
  }

  /** As the device published it. */
  get usedIndex(): number {
    const at = Number(this.addresses.deviceArea - this.addresses.descriptorArea);
    return this.#view(at, VRING_USED.size).getUint16(VRING_USED.offset.idx, true);
  }

  free(): void {
    this.#dma.freeCoherent(this.#area);
  }

  #view(at: number, size: number): DataView {
    const { u8 } = this.#dma.memory;
    return new DataView(u8.buffer, u8.byteOffset + this.#area.offset + at, size);
  }
}
