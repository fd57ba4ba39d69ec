import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DMA_FAULT_LIMIT, DMA_FAULT_READONLY, DMA_OK, type DeviceMemory, type MappedArea } from '../dma.ts';
import { SegmentList } from '../segment-list.ts';
import { gather, scatter } from '../testing/segments.ts';

/** Bytes that the driver lent to the device. */
export interface LentBytes {
  /** Device address of the first byte. */
  readonly address: bigint;
  readonly size: number;
  /** The bytes as the device would find them or has left them. */
  read(): Uint8Array;
  write(bytes: Uint8Array): void;
}

export interface DeviceMemorySubject {
  readonly memory: DeviceMemory;
  /** Lends `size` fresh bytes, contiguous in device addresses, for reading or also for writing. */
  lend(size: number, writable: boolean): LentBytes;
  /** Takes them back after the device has unmapped all. */
  takeBack(lent: LentBytes): void;
  /** A page-aligned address at which nothing is lent, with at least a page of nothing behind it. */
  readonly nowhere: bigint;
  /** Throws when anything is still lent or mapped. */
  assertQuiescent(): void;
}

export interface DeviceMemoryCase {
  readonly name: string;
  readonly create: () => DeviceMemorySubject;
  readonly capabilities: {
    /** What was lent for reading cannot be mapped for writing. */
    readonly readOnly: boolean;
    /** Only lent bytes can be mapped; else all memory of the driver can. */
    readonly isolates: boolean;
  };
}

const SIZES = [1, 7, 8, 4095, 4096, 4097, 12_288, 20_001];

function pattern(size: number, seed: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, index) => (index * 31 + seed) & 0xff);
}

function low(address: bigint): number {
  return Number(BigInt.asUintN(32, address));
}

function high(address: bigint): number {
  return Number(BigInt.asUintN(64, address) >> 32n);
}

/** Certifies an implementation of `DeviceMemory`. */
export function describeDeviceMemory({ name, create, capabilities }: DeviceMemoryCase): void {
  describe(`DeviceMemory: ${name}`, () => {
    let subject: DeviceMemorySubject;
    let memory: DeviceMemory;
    const map = (address: bigint, size: number, writable: boolean, into: SegmentList): number =>
      memory.map(low(address), high(address), size, writable, into);

    beforeEach(() => {
      subject = create();
      memory = subject.memory;
    });
    afterEach(() => subject.assertQuiescent());

    it.each(SIZES)(
      'map for reading yields the %i bytes that were lent, in order, in segments that are not empty',
      (size) => {
        const lent = subject.lend(size, false);
        lent.write(pattern(size, 3));
        const list = new SegmentList();
        expect(map(lent.address, size, false, list)).toBe(DMA_OK);
        expect(gather(memory, list)).toEqual(pattern(size, 3));
        expect(list.size.subarray(0, list.count).every((bytes) => bytes > 0)).toBe(true);
        memory.unmap(list, 0, list.count);
        subject.takeBack(lent);
      },
    );

    it.each(SIZES)('what the device writes into %i mapped bytes, the driver finds', (size) => {
      const lent = subject.lend(size, true);
      const list = new SegmentList();
      expect(map(lent.address, size, true, list)).toBe(DMA_OK);
      scatter(memory, list, pattern(size, 9));
      memory.unmap(list, 0, list.count);
      expect(lent.read()).toEqual(pattern(size, 9));
      subject.takeBack(lent);
    });

    it('maps parts of what was lent, at any byte', () => {
      const lent = subject.lend(9000, false);
      lent.write(pattern(9000, 0));
      for (const [from, size] of [
        [0, 1],
        [1, 4095],
        [4095, 2],
        [4096, 4096],
        [8999, 1],
        [5, 8990],
      ] as const) {
        const list = new SegmentList();
        expect(map(lent.address + BigInt(from), size, false, list)).toBe(DMA_OK);
        expect(gather(memory, list)).toEqual(pattern(9000, 0).subarray(from, from + size));
        memory.unmap(list, 0, list.count);
      }
      subject.takeBack(lent);
    });

    it('size 0 maps nothing and is no fault', () => {
      const lent = subject.lend(64, false);
      const list = new SegmentList();
      expect(map(lent.address, 0, false, list)).toBe(DMA_OK);
      expect(list.count).toBe(0);
      subject.takeBack(lent);
    });

    it('appends behind what the list holds, and unmaps only what it is told', () => {
      const one = subject.lend(5000, false);
      const two = subject.lend(100, true);
      one.write(pattern(5000, 1));
      two.write(pattern(100, 2));
      const list = new SegmentList(1);
      expect(map(one.address, 5000, false, list)).toBe(DMA_OK);
      const border = list.count;
      expect(map(two.address, 100, true, list)).toBe(DMA_OK);
      memory.unmap(list, 0, border);
      expect(gather(memory, list, border)).toEqual(pattern(100, 2));
      memory.unmap(list, border, list.count);
      subject.takeBack(one);
      subject.takeBack(two);
    });

    it('the same bytes may be mapped more than once, and are unmapped as often', () => {
      const lent = subject.lend(4096, true);
      const list = new SegmentList();
      for (let i = 0; i < 3; i++) expect(map(lent.address, 4096, true, list)).toBe(DMA_OK);
      memory.unmap(list, 0, list.count);
      subject.takeBack(lent);
    });

    it('a fault appends nothing and leaves nothing mapped', () => {
      const list = new SegmentList();
      expect(map(subject.nowhere, 16, false, list)).not.toBe(DMA_OK);
      expect(map(subject.nowhere, 16, true, list)).not.toBe(DMA_OK);
      expect(list.count).toBe(0);
    });

    it.each([
      ['the end of the address space', (1n << 64n) - 8n, 16],
      ['the last page', (1n << 64n) - 4096n, 8192],
      ['the last byte', (1n << 64n) - 1n, 2],
    ])('a range that wraps at %s is a fault', (_, address, size) => {
      const list = new SegmentList();
      expect(map(address, size, false, list)).not.toBe(DMA_OK);
      expect(list.count).toBe(0);
    });

    it('§6.2 case 11: a range that runs out of what the driver may lend is a fault as a whole', () => {
      const lent = subject.lend(4096, true);
      const list = new SegmentList();
      expect(map(lent.address, 0xffff_ffff, true, list)).not.toBe(DMA_OK);
      expect(list.count).toBe(0);
      subject.takeBack(lent);
    });

    it('a list that is full is DMA_FAULT_LIMIT, and nothing stays mapped', () => {
      const lent = subject.lend(4096, false);
      const list = new SegmentList(1, 1);
      expect(map(lent.address, 1, false, list)).toBe(DMA_OK);
      expect(map(lent.address, 1, false, list)).toBe(DMA_FAULT_LIMIT);
      expect(list.count).toBe(1);
      memory.unmap(list, 0, 1);
      subject.takeBack(lent);
    });

    it.runIf(capabilities.readOnly)(
      'what was lent for reading is DMA_FAULT_READONLY when mapped for writing',
      () => {
        const lent = subject.lend(4096, false);
        const list = new SegmentList();
        expect(map(lent.address, 4096, true, list)).toBe(DMA_FAULT_READONLY);
        expect(memory.mapArea(lent.address, 4096, 4, true)).toBe(DMA_FAULT_READONLY);
        expect(list.count).toBe(0);
        subject.takeBack(lent);
      },
    );

    it.runIf(capabilities.isolates)('bytes that were taken back are out of reach', () => {
      const lent = subject.lend(4096, true);
      subject.takeBack(lent);
      const list = new SegmentList();
      expect(map(lent.address, 4096, false, list)).not.toBe(DMA_OK);
      expect(typeof memory.mapArea(lent.address, 4096, 4, true)).toBe('number');
    });

    it('mapArea yields contiguous memory that both sides see', () => {
      const lent = subject.lend(8192, true);
      lent.write(pattern(8192, 5));
      const area = memory.mapArea(lent.address, 8192, 4096, true) as MappedArea;
      expect(area).toMatchObject({ size: 8192 });
      expect(area.region.u8.slice(area.offset, area.offset + 8192)).toEqual(pattern(8192, 5));
      Atomics.store(area.region.u16, area.offset / 2 + 1, 0xbeef);
      expect([...lent.read().subarray(2, 4)]).toEqual([0xef, 0xbe]);
      memory.unmapArea(area);
      subject.takeBack(lent);
    });

    it('mapArea answers a status for what is misaligned, nowhere, empty or no address', () => {
      const lent = subject.lend(4096, true);
      for (const [address, size, alignment] of [
        [lent.address + 8n, 64, 16],
        [lent.address + 1n, 2, 2],
        [lent.address, 0, 4],
        [subject.nowhere, 64, 4],
        [(1n << 64n) - 4096n, 8192, 4],
        [1n << 64n, 64, 4],
        [-4096n, 64, 4],
      ] as const) {
        const status = memory.mapArea(address, size, alignment, true);
        expect(typeof status === 'number' && status !== DMA_OK, `${address} ${size} ${alignment}`).toBe(true);
      }
      subject.takeBack(lent);
    });
  });
}
