import { IdentityDeviceMemory, IdentityDmaMapper, memoryRegion } from '@virtlab/guest-memory';
import { describe, expect, it } from 'vitest';
import {
  ADD_BROKEN,
  ADD_FULL,
  type DeviceQueue,
  type DriverQueue,
  TABLE_ENTRY_WORDS,
  createBufferList,
  createDeviceQueue,
  createDriverQueue,
  tableLink,
  writeTableEntry,
} from './index.ts';

const SIZE = 8;
const BASE = 0x1_0000_0000n;
const SLOT_SIZE = 256;

interface Pair {
  readonly driver: DriverQueue;
  readonly device: DeviceQueue;
  readonly dma: IdentityDmaMapper;
  /** Adds a table of 8 readable and 16 writable bytes in slot `token`. */
  add(token: number): number;
  close(): void;
}

function createPair(packed: boolean, inOrder: boolean): Pair {
  const region = memoryRegion(new ArrayBuffer(1 << 20));
  const dma = new IdentityDmaMapper(region, { baseAddress: BASE });
  const memory = new IdentityDeviceMemory([{ guestAddress: BASE, region }]);
  const features = { indirect: true, eventIdx: true, packed, inOrder };
  const driver = createDriverQueue({ size: SIZE, dma, features, bufferCountMax: 4 });
  const made = createDeviceQueue({ addresses: driver.addresses, memory, features });
  if (!made.ok) throw new Error(made.violation.message);
  const slots = dma.allocateCoherent(64 * SLOT_SIZE);
  const add = (token: number): number => {
    const low = slots.addressLow + token * SLOT_SIZE;
    const high = slots.addressHigh;
    const at = (slots.offset + token * SLOT_SIZE) / 4;
    region.u8.fill(token + 1, at * 4 + 128, at * 4 + 136);
    writeTableEntry(region.u32, at, low + 128, high, 8, tableLink(0, 2, false, packed));
    const second = tableLink(1, 2, true, packed);
    writeTableEntry(region.u32, at + TABLE_ENTRY_WORDS, low + 160, high, 16, second);
    return driver.addTable(low, high, 2, 16, token);
  };
  const close = (): void => {
    made.queue.release();
    expect(driver.release()).toBe(true);
    expect(dma.freeCoherent(slots)).toBe(true);
    expect([dma.lentCount, dma.coherentCount, dma.usedPages]).toEqual([0, 0, 0]);
  };
  return { driver, device: made.queue, dma, add, close };
}

describe.each([
  ['split', false, false],
  ['split, in order', false, true],
  ['packed', true, false],
  ['packed, in order', true, true],
])('§2.7.5.3, §2.8.7 a table of the caller’s own, %s', (_name, packed, inOrder) => {
  it('is popped as it stands and comes back by its token, many laps long, beside requests that are copied', () => {
    const { driver, device, dma, add, close } = createPair(packed, inOrder);
    const payload = dma.allocate(4096);
    const list = createBufferList();
    list.addReadable(payload, 8);
    list.addWritable(payload + 8, 16);
    for (let lap = 0; lap < 5 * SIZE; lap += 1) {
      expect([add(lap % 7), driver.add(list, 40), add(10 + (lap % 7))]).toEqual([0, 0, 0]);
      expect(driver.needsKick()).toBe(true);
      for (let chain = device.pop(); chain !== undefined; chain = device.pop()) {
        expect([chain.readableSize, chain.writableSize, chain.segments.count]).toEqual([8, 16, 2]);
        const found = chain.readU8(0);
        expect([lap % 7, 10 + (lap % 7), -1]).toContain(found - 1);
        chain.write(0, Uint8Array.of(found));
        device.push(chain, 16);
      }
      device.publish();
      expect([driver.popUsed(), driver.usedSize]).toEqual([lap % 7, 16]);
      expect([driver.popUsed(), driver.popUsed(), driver.popUsed()]).toEqual([40, 10 + (lap % 7), -1]);
      expect([driver.inFlightCount, driver.freeCount]).toEqual([0, SIZE]);
    }
    dma.free(payload, 4096);
    close();
  });

  it('a queue is full of them, gives them up, and takes none when broken', () => {
    const { driver, device, add, close } = createPair(packed, inOrder);
    for (let token = 0; token < SIZE; token += 1) expect(add(token)).toBe(0);
    expect(add(SIZE)).toBe(ADD_FULL);
    driver.publish();
    device.push(device.pop()!, 16);
    device.publish();
    expect([driver.popUsed(), driver.usedSize, driver.clampedCount]).toEqual([0, 16, 0]);
    expect(driver.snapshot().inFlight).toHaveLength(SIZE - 1);
    driver.markBroken({ section: '2.1.2', message: 'gone' });
    expect(add(0)).toBe(ADD_BROKEN);
    close();
  });

  it('misuse throws', () => {
    const { driver, close } = createPair(packed, inOrder);
    expect(() => driver.addTable(0, 0, 0, 0, 1)).toThrow(RangeError);
    expect(() => driver.addTable(0, 0, SIZE + 1, 0, 1)).toThrow(RangeError);
    expect(() => driver.addTable(0, 0, 1, 0, -1)).toThrow(RangeError);
    expect(driver.inFlightCount).toBe(0);
    close();
  });
});

it('a queue without indirect descriptors takes none', () => {
  const dma = new IdentityDmaMapper(memoryRegion(new ArrayBuffer(1 << 16)));
  const driver = createDriverQueue({ size: SIZE, dma, features: { indirect: false, eventIdx: false } });
  expect(() => driver.addTable(0, 0, 1, 0, 1)).toThrow(TypeError);
  driver.release();
});
