import { describeDeviceMemory, describeDmaMapper, type LentBytes } from './conformance.ts';
import { DMA_TO_DEVICE, type CoherentBuffer } from './dma.ts';
import { IdentityDeviceMemory } from './identity-device-memory.ts';
import { IdentityDmaMapper } from './identity-dma-mapper.ts';
import { memoryRegion, type MemoryRegion } from './memory-region.ts';
import { PageAllocator } from './page-allocator.ts';
import { CountingDeviceMemory, HostileDmaMapper } from './testing.ts';

const SIZE = 1 << 20;

/** The memory ends at a 4 GiB border of addresses, so that the tests' buffers cross it. */
const BASE = 0x3_0000_0000n - 0x4000n;

function identity(baseAddress: bigint) {
  const memory = memoryRegion(new ArrayBuffer(SIZE));
  const mapper = new IdentityDmaMapper(memory, { baseAddress });
  const inner = new IdentityDeviceMemory([{ guestAddress: baseAddress, region: memory }]);
  const device = new CountingDeviceMemory(inner);
  const assertQuiescent = (): void => {
    device.assertNothingMapped();
    const left = [
      mapper.lentCount,
      mapper.coherentCount,
      mapper.usedPages,
      inner.mappedSegmentCount,
      inner.mappedAreaCount,
    ];
    if (left.some((count) => count !== 0)) throw new Error(`Left over: ${left.join(', ')}`);
  };
  return { memory, mapper, device, assertQuiescent };
}

for (const base of [0n, BASE, (1n << 63n) - BigInt(SIZE)]) {
  describeDmaMapper({
    name: `identity at ${base.toString(16)}`,
    create: () => identity(base),
    capabilities: { isolates: false },
  });
}

describeDmaMapper({
  name: 'hostile',
  create() {
    const mapper = new HostileDmaMapper({ shareMax: 20 });
    const device = new CountingDeviceMemory(mapper.deviceMemory);
    return {
      mapper,
      device,
      assertQuiescent() {
        device.assertNothingMapped();
        mapper.assertNothingLent();
      },
    };
  },
  capabilities: { isolates: true, shareMax: 20 },
});

function lentBytes(region: MemoryRegion, offset: number, size: number, address: bigint): LentBytes {
  return {
    address,
    size,
    read: () => region.u8.slice(offset, offset + size),
    write: (bytes) => region.u8.set(bytes, offset),
  };
}

describeDeviceMemory({
  name: 'identity',
  create() {
    const { memory, mapper, device, assertQuiescent } = identity(BASE);
    return {
      memory: device,
      lend(size) {
        const offset = mapper.allocate(size);
        return lentBytes(memory, offset, size, BASE + BigInt(offset));
      },
      takeBack: (lent) => mapper.free(Number(lent.address - BASE), lent.size),
      nowhere: BASE + BigInt(SIZE),
      assertQuiescent,
    };
  },
  capabilities: { readOnly: false, isolates: false },
});

describeDeviceMemory({
  name: 'identity over many small adjacent regions',
  create() {
    const whole = new ArrayBuffer(SIZE);
    const piece = 4096 * 8;
    const ranges = Array.from({ length: SIZE / piece }, (_, index) => ({
      guestAddress: BASE + BigInt(index * piece),
      region: memoryRegion(whole, index * piece, piece),
    }));
    const inner = new IdentityDeviceMemory(ranges.toReversed());
    const device = new CountingDeviceMemory(inner);
    const pages = new PageAllocator(piece - 4096, SIZE - piece);
    const region = memoryRegion(whole);
    // The suite maps areas of two pages: those must not straddle, so areas come from the start of a piece.
    return {
      memory: device,
      lend(size, writable) {
        const skip = writable && size === 8192 ? pages.allocate(4096) : undefined;
        const offset = pages.allocate(size);
        if (skip !== undefined) pages.free(skip, 4096);
        return lentBytes(region, offset, size, BASE + BigInt(offset));
      },
      takeBack: (lent) => pages.free(Number(lent.address - BASE), lent.size),
      nowhere: BASE - 4096n * 2n,
      assertQuiescent() {
        device.assertNothingMapped();
        if (pages.usedPages !== 0) throw new Error(`${pages.usedPages} pages left`);
      },
    };
  },
  capabilities: { readOnly: false, isolates: false },
});

describeDeviceMemory({
  name: 'hostile',
  create() {
    const mapper = new HostileDmaMapper();
    const device = new CountingDeviceMemory(mapper.deviceMemory);
    const coherent = new Map<LentBytes, CoherentBuffer>();
    /** For reading, a share is made late, when the bytes are written: it copies. */
    const shares = new Map<LentBytes, number>();
    return {
      memory: device,
      lend(size, writable) {
        if (writable) {
          const buffer = mapper.allocateCoherent(size);
          const address = (BigInt(buffer.addressHigh) << 32n) | BigInt(buffer.addressLow);
          const lent = lentBytes(mapper.memory, buffer.offset, size, address);
          coherent.set(lent, buffer);
          return lent;
        }
        const offset = mapper.allocate(size);
        const share = (): bigint => {
          mapper.share(offset, size, DMA_TO_DEVICE);
          return (BigInt(mapper.addressHigh) << 32n) | BigInt(mapper.addressLow);
        };
        let address = share();
        const lent: LentBytes = {
          get address() {
            return address;
          },
          size,
          read: () => mapper.memory.u8.slice(offset, offset + size),
          write(bytes) {
            mapper.unshare(Number(BigInt.asUintN(32, address)), Number(address >> 32n), size, DMA_TO_DEVICE);
            mapper.memory.u8.set(bytes, offset);
            address = share();
          },
        };
        shares.set(lent, offset);
        return lent;
      },
      takeBack(lent) {
        const buffer = coherent.get(lent);
        if (buffer !== undefined) {
          mapper.freeCoherent(buffer);
          return;
        }
        const { address, size } = lent;
        mapper.unshare(Number(BigInt.asUintN(32, address)), Number(address >> 32n), size, DMA_TO_DEVICE);
        mapper.free(shares.get(lent)!, size);
      },
      nowhere: 0x10_0000n,
      assertQuiescent() {
        device.assertNothingMapped();
        mapper.assertNothingLent();
      },
    };
  },
  capabilities: { readOnly: true, isolates: true },
});
