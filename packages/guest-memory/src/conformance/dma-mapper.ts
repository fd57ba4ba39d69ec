import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  DMA_BIDIRECTIONAL,
  DMA_FROM_DEVICE,
  DMA_OK,
  DMA_TO_DEVICE,
  type CoherentBuffer,
  type DeviceMemory,
  type DmaMapper,
  type MappedArea,
} from '../dma.ts';
import { SegmentList } from '../segment-list.ts';
import { gather, scatter } from '../testing/segments.ts';

export interface DmaMapperSubject {
  readonly mapper: DmaMapper;
  /** What the device on the other side of this mapper reaches. */
  readonly device: DeviceMemory;
  /** Throws when anything is still allocated, lent or mapped. */
  assertQuiescent(): void;
}

export interface DmaMapperCase {
  readonly name: string;
  readonly create: () => DmaMapperSubject;
  readonly capabilities: {
    /** The device reaches only what is lent at the moment. */
    readonly isolates: boolean;
    /** So many one-page shares are the most that can live; undefined when there is no such number. */
    readonly shareMax?: number;
  };
}

const PAGE = 4096;

/** Ranges `[offset in the buffer, size]` at and around page borders. */
const RANGES: readonly (readonly [number, number])[] = [
  [0, 1],
  [0, PAGE],
  [17, 16],
  [PAGE - 1, 2],
  [PAGE - 7, PAGE + 14],
  [1, 3 * PAGE - 2],
];

function pattern(size: number, seed: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, index) => (index * 13 + seed) & 0xff);
}

function addressOf(buffer: CoherentBuffer): bigint {
  return (BigInt(buffer.addressHigh) << 32n) | BigInt(buffer.addressLow);
}

/** Certifies an implementation of `DmaMapper`. Needs at least 64 pages of memory. */
export function describeDmaMapper({ name, create, capabilities }: DmaMapperCase): void {
  describe(`DmaMapper: ${name}`, () => {
    let subject: DmaMapperSubject;
    let mapper: DmaMapper;

    beforeEach(() => {
      subject = create();
      mapper = subject.mapper;
    });
    afterEach(() => subject.assertQuiescent());

    /** Lets the device read or write the latest share. */
    const deviceReads = (size: number): Uint8Array => {
      const list = new SegmentList();
      expect(subject.device.map(mapper.addressLow, mapper.addressHigh, size, false, list)).toBe(DMA_OK);
      const bytes = gather(subject.device, list);
      subject.device.unmap(list, 0, list.count);
      return bytes;
    };
    const deviceWrites = (bytes: Uint8Array): void => {
      const list = new SegmentList();
      expect(subject.device.map(mapper.addressLow, mapper.addressHigh, bytes.length, true, list)).toBe(
        DMA_OK,
      );
      scatter(subject.device, list, bytes);
      subject.device.unmap(list, 0, list.count);
    };

    it.each([1, PAGE, PAGE + 1, 5 * PAGE])(
      'allocateCoherent(%i) is zeroed, page aligned, and stays so when reused',
      (size) => {
        for (let round = 0; round < 3; round++) {
          const buffer = mapper.allocateCoherent(size);
          expect(buffer.size).toBe(size);
          expect(buffer.offset % PAGE).toBe(0);
          const bytes = mapper.memory.u8.subarray(buffer.offset, buffer.offset + size);
          expect(bytes.every((byte) => byte === 0)).toBe(true);
          bytes.fill(0xff);
          expect(mapper.freeCoherent(buffer)).toBe(true);
        }
      },
    );

    it('coherent memory is one contiguous area of the device, and each side sees the other write', () => {
      const buffer = mapper.allocateCoherent(3 * PAGE);
      const area = subject.device.mapArea(addressOf(buffer), 3 * PAGE, PAGE, true) as MappedArea;
      expect(area).toMatchObject({ size: 3 * PAGE });
      mapper.memory.u8.set(pattern(3 * PAGE, 1), buffer.offset);
      expect(area.region.u8.slice(area.offset, area.offset + 3 * PAGE)).toEqual(pattern(3 * PAGE, 1));
      Atomics.store(area.region.u16, (area.offset + 2 * PAGE) / 2, 0x1234);
      expect(Atomics.load(mapper.memory.u16, (buffer.offset + 2 * PAGE) / 2)).toBe(0x1234);
      subject.device.unmapArea(area);
      expect(mapper.freeCoherent(buffer)).toBe(true);
    });

    it('coherent buffers are disjoint', () => {
      const buffers = [1, 3, 2].map((pages) => mapper.allocateCoherent(pages * PAGE));
      buffers.forEach((buffer, index) =>
        mapper.memory.u8.fill(index + 1, buffer.offset, buffer.offset + buffer.size),
      );
      buffers.forEach((buffer, index) => {
        const bytes = mapper.memory.u8.subarray(buffer.offset, buffer.offset + buffer.size);
        expect(bytes.every((byte) => byte === index + 1)).toBe(true);
        const area = subject.device.mapArea(addressOf(buffer), buffer.size, 8, true) as MappedArea;
        expect(area.region.u8[area.offset + buffer.size - 1]).toBe(index + 1);
        subject.device.unmapArea(area);
      });
      for (const buffer of buffers) expect(mapper.freeCoherent(buffer)).toBe(true);
    });

    it('asking for more than there is throws DmaError and loses nothing', () => {
      for (const allocate of [
        () => mapper.allocateCoherent(mapper.memory.size + PAGE),
        () => mapper.allocate(mapper.memory.size + PAGE),
      ]) {
        expect(allocate).toThrow(
          expect.objectContaining({
            name: 'DmaError',
            code: expect.stringMatching(/^(ENOMEM|ENOSPC)$/) as string,
          }),
        );
      }
      mapper.free(mapper.allocate(PAGE), PAGE);
    });

    it('allocate is page aligned and disjoint, and freeing twice is an error', () => {
      const one = mapper.allocate(PAGE + 1);
      const two = mapper.allocate(PAGE);
      expect([one % PAGE, two % PAGE]).toEqual([0, 0]);
      expect(two >= one + 2 * PAGE || one >= two + PAGE).toBe(true);
      mapper.free(two, PAGE);
      expect(() => mapper.free(two, PAGE)).toThrow(RangeError);
      mapper.free(one, PAGE + 1);
    });

    it.each(RANGES)(
      'DMA_TO_DEVICE: the device reads what was there at share (byte %i, size %i)',
      (from, size) => {
        const offset = mapper.allocate(4 * PAGE);
        mapper.memory.u8.set(pattern(size, 7), offset + from);
        expect(mapper.share(offset + from, size, DMA_TO_DEVICE)).toBe(true);
        expect(deviceReads(size)).toEqual(pattern(size, 7));
        expect(mapper.unshare(mapper.addressLow, mapper.addressHigh, size, DMA_TO_DEVICE)).toBe(true);
        expect(mapper.memory.u8.slice(offset + from, offset + from + size)).toEqual(pattern(size, 7));
        mapper.free(offset, 4 * PAGE);
      },
    );

    it.each(RANGES)(
      'DMA_FROM_DEVICE: the driver reads what the device wrote, after unshare (byte %i, size %i)',
      (from, size) => {
        const offset = mapper.allocate(4 * PAGE);
        mapper.memory.u8.fill(0x11, offset, offset + 4 * PAGE);
        expect(mapper.share(offset + from, size, DMA_FROM_DEVICE)).toBe(true);
        deviceWrites(pattern(size, 8));
        expect(mapper.unshare(mapper.addressLow, mapper.addressHigh, size, DMA_FROM_DEVICE)).toBe(true);
        const bytes = mapper.memory.u8.subarray(offset, offset + 4 * PAGE);
        expect(bytes.slice(from, from + size)).toEqual(pattern(size, 8));
        expect(bytes.subarray(0, from).every((byte) => byte === 0x11)).toBe(true);
        expect(bytes.subarray(from + size).every((byte) => byte === 0x11)).toBe(true);
        mapper.free(offset, 4 * PAGE);
      },
    );

    it('DMA_BIDIRECTIONAL: both ways in one share', () => {
      const offset = mapper.allocate(PAGE);
      mapper.memory.u8.set(pattern(100, 1), offset);
      expect(mapper.share(offset, 100, DMA_BIDIRECTIONAL)).toBe(true);
      expect(deviceReads(100)).toEqual(pattern(100, 1));
      deviceWrites(pattern(100, 2));
      expect(mapper.unshare(mapper.addressLow, mapper.addressHigh, 100, DMA_BIDIRECTIONAL)).toBe(true);
      expect(mapper.memory.u8.slice(offset, offset + 100)).toEqual(pattern(100, 2));
      mapper.free(offset, PAGE);
    });

    it('addresses are unsigned words', () => {
      const offset = mapper.allocate(PAGE);
      expect(mapper.share(offset, PAGE, DMA_TO_DEVICE)).toBe(true);
      for (const word of [mapper.addressLow, mapper.addressHigh]) expect(word).toBe(word >>> 0);
      expect(mapper.unshare(mapper.addressLow, mapper.addressHigh, PAGE, DMA_TO_DEVICE)).toBe(true);
      mapper.free(offset, PAGE);
    });

    it('the same bytes may be lent twice for reading, and are taken back twice, in any order', () => {
      const offset = mapper.allocate(PAGE);
      mapper.memory.u8.set(pattern(64, 4), offset);
      const shares = [0, 1].map(() => {
        expect(mapper.share(offset, 64, DMA_TO_DEVICE)).toBe(true);
        return { low: mapper.addressLow, high: mapper.addressHigh };
      });
      expect(mapper.unshare(shares[0]!.low, shares[0]!.high, 64, DMA_TO_DEVICE)).toBe(true);
      expect(deviceReads(64)).toEqual(pattern(64, 4));
      expect(mapper.unshare(shares[1]!.low, shares[1]!.high, 64, DMA_TO_DEVICE)).toBe(true);
      mapper.free(offset, PAGE);
    });

    it('a malformed range is the caller’s mistake', () => {
      expect(() => mapper.share(mapper.memory.size - 1, 2, DMA_TO_DEVICE)).toThrow(RangeError);
      expect(() => mapper.share(-1, 2, DMA_TO_DEVICE)).toThrow(RangeError);
    });

    it.runIf(capabilities.isolates)('the device reaches nothing before share and after unshare', () => {
      const offset = mapper.allocate(PAGE);
      const list = new SegmentList();
      expect(mapper.share(offset, PAGE, DMA_TO_DEVICE)).toBe(true);
      const { addressLow, addressHigh } = mapper;
      expect(subject.device.map(addressLow, addressHigh, PAGE, true, list)).not.toBe(DMA_OK);
      expect(mapper.unshare(addressLow, addressHigh, PAGE, DMA_TO_DEVICE)).toBe(true);
      expect(subject.device.map(addressLow, addressHigh, PAGE, false, list)).not.toBe(DMA_OK);
      expect(list.count).toBe(0);
      mapper.free(offset, PAGE);
    });

    const shareMax = capabilities.shareMax;
    it.runIf(shareMax !== undefined)(
      'share says false when nothing is left, and works again after an unshare',
      () => {
        const offset = mapper.allocate(PAGE);
        const shares: { low: number; high: number }[] = [];
        const share = (): boolean => mapper.share(offset, 64, DMA_TO_DEVICE);
        while (shares.length < shareMax! && share())
          shares.push({ low: mapper.addressLow, high: mapper.addressHigh });
        expect(shares).toHaveLength(shareMax!);
        expect(share()).toBe(false);
        const first = shares.shift()!;
        expect(mapper.unshare(first.low, first.high, 64, DMA_TO_DEVICE)).toBe(true);
        expect(share()).toBe(true);
        shares.push({ low: mapper.addressLow, high: mapper.addressHigh });
        for (const { low, high } of shares) expect(mapper.unshare(low, high, 64, DMA_TO_DEVICE)).toBe(true);
        mapper.free(offset, PAGE);
      },
    );
  });
}
