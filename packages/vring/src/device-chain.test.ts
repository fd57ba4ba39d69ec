import { VRING_DESC_F_WRITE } from '@virtlab/abi/virtio-ring';
import { describe, expect, it } from 'vitest';
import type { DescriptorChain } from './contract.ts';
import { createDeviceRig, type DeviceRig } from './testing.ts';

/** Readable 3 + 1 + 200 bytes, writable 2 + 5 + 200 bytes, in scattered places. */
function scattered(splitSize?: number): { rig: DeviceRig; chain: DescriptorChain } {
  const rig = createDeviceRig(splitSize === undefined ? {} : { splitSize });
  const { driver, payload } = rig;
  const at = (offset: number): bigint => payload + BigInt(offset);
  const head = driver.chain(
    0,
    { address: at(0x101), size: 3 },
    { address: at(0x40), size: 1 },
    { address: at(0x1000), size: 200 },
    { address: at(0x203), size: 2, flags: VRING_DESC_F_WRITE },
    { address: at(0x300), size: 5, flags: VRING_DESC_F_WRITE },
    { address: at(0x2000), size: 200, flags: VRING_DESC_F_WRITE },
  );
  const bytes = (offset: number, ...values: number[]): void =>
    rig.region.u8.set(values, rig.payloadOffset + offset);
  bytes(0x101, 0x11, 0x22, 0x83);
  bytes(0x40, 0x94);
  bytes(0x1000, ...Array.from({ length: 200 }, (_, i) => i));
  driver.makeAvailable(head);
  return { rig, chain: rig.queue.pop()! };
}

describe('chain accessors', () => {
  it('§2.7.4.1 the device MUST NOT assume framing: words may straddle segments at any alignment', () => {
    const { chain } = scattered();
    expect(chain.readU8(3)).toBe(0x94);
    expect(chain.readU16(2)).toBe(0x9483);
    expect(chain.readU32(0)).toBe(0x94832211);
    expect(chain.readU32(1)).toBe(0x00948322);
    expect(chain.readU32(203 - 3)).toBe(0xc7c6c5c4);
  });

  it('reads and writes across segments, short copies and long ones', () => {
    for (const splitSize of [undefined, 16]) {
      const { rig, chain } = scattered(splitSize);
      const all = new Uint8Array(204);
      expect(chain.read(0, all)).toBe(true);
      expect([...all.subarray(0, 6)]).toEqual([0x11, 0x22, 0x83, 0x94, 0, 1]);
      expect(all[203]).toBe(199);
      const some = new Uint8Array(3);
      expect(chain.read(2, some)).toBe(true);
      expect([...some]).toEqual([0x83, 0x94, 0]);

      const out = Uint8Array.from({ length: 207 }, (_, i) => 255 - i);
      expect(chain.write(0, out)).toBe(true);
      const at = (offset: number, size: number): number[] => [
        ...rig.region.u8.subarray(rig.payloadOffset + offset, rig.payloadOffset + offset + size),
      ];
      expect([...at(0x203, 2), ...at(0x300, 5), ...at(0x2000, 200)]).toEqual([...out]);
      expect(at(0x205, 1)).toEqual([0]);
      expect(at(0x305, 1)).toEqual([0]);
      rig.queue.release();
      rig.memory.assertNothingMapped();
    }
  });

  it('writes little-endian words of any alignment', () => {
    const { rig, chain } = scattered();
    expect(chain.writeU32(1, 0xd4c3b2a1)).toBe(true);
    expect(chain.writeU16(5, 0xf6e5)).toBe(true);
    expect(chain.writeU8(0, 0x10)).toBe(true);
    const { u8 } = rig.region;
    const at = (offset: number): number => u8[rig.payloadOffset + offset]!;
    expect([at(0x203), at(0x204), at(0x300), at(0x301), at(0x302), at(0x303), at(0x304)]).toEqual([
      0x10, 0xa1, 0xb2, 0xc3, 0xd4, 0xe5, 0xf6,
    ]);
  });

  it('beyond the part: NaN or false, nothing copied, and the other part is never touched', () => {
    const { chain } = scattered();
    expect([chain.readU8(204), chain.readU16(203), chain.readU32(201), chain.readU8(-1)]).toEqual(
      Array.from({ length: 4 }, () => Number.NaN),
    );
    const out = Uint8Array.of(7, 7);
    expect(chain.read(203, out)).toBe(false);
    expect([...out]).toEqual([7, 7]);
    expect([
      chain.writeU8(207, 1),
      chain.writeU16(206, 1),
      chain.writeU32(204, 1),
      chain.write(206, out),
    ]).toEqual([false, false, false, false]);
    expect(chain.read(204, new Uint8Array(0))).toBe(true);
    expect(chain.read(205, new Uint8Array(0))).toBe(false);
    expect(chain.read(Number.NaN, out)).toBe(false);
  });

  it('after push a chain gives access to nothing', () => {
    const { rig, chain } = scattered();
    rig.queue.push(chain, 0);
    expect(chain.readU8(0)).toBeNaN();
    expect(chain.writeU8(0, 1)).toBe(false);
    rig.queue.release();
    rig.memory.assertNothingMapped();
  });
});
