import { describe, expect, it } from 'vitest';
import * as fc from 'fast-check';
import { type FieldTypes, type RecordOf, type ScalarType, extend, layout } from './layout.ts';
import { GNTTAB_MAP_GRANT_REF } from './grant-table.ts';
import type { VIRTIO_NET_CONFIG } from './virtio-net.ts';
import { VIRTIO_PCI_NOTIFY_CAP } from './virtio-pci.ts';
import { VRING_DESC } from './virtio-ring.ts';
import { XSD_SOCKMSG } from './xs-wire.ts';

const viewOf = (size: number, fill = 0): DataView => new DataView(new Uint8Array(size).fill(fill).buffer);
const bytesOf = (view: DataView): number[] => [
  ...new Uint8Array(view.buffer, view.byteOffset, view.byteLength),
];

describe('layout', () => {
  it('places each field at the next multiple of its width', () => {
    const mixed = layout(24, { a: 'u8', b: 'le16', c: 'u8', d: 'le64', e: 'le32' });
    expect(mixed.offset).toEqual({ a: 0, b: 2, c: 4, d: 8, e: 16 });
    expect(mixed.width).toEqual({ a: 1, b: 2, c: 1, d: 8, e: 4 });
    expect(mixed.align).toBe(8);
  });

  it('aligns an array by its item, not by its length', () => {
    expect(layout(12, { a: 'u8', b: ['u8', 3], c: 'le16', d: ['le16', 3] }).offset).toEqual({
      a: 0,
      b: 1,
      c: 4,
      d: 6,
    });
  });

  it('pads the end to the widest field', () => {
    expect(layout(24, { a: 'le64', b: 'le64', c: 'le16', d: 'le16' }).size).toBe(24);
  });

  it.each([20, 32])('refuses a stated size of %i where the fields make 24', (size) => {
    expect(() => layout(size, { a: 'le64', b: 'le64', c: 'le16' })).toThrow(`24 bytes, declared as ${size}`);
  });

  it('continues a base structure and refuses one of its names', () => {
    const base = layout(4, { kind: 'u8', pad: 'u8', length: 'le16' });
    expect(extend(8, base, { value: 'le32' }).offset).toEqual({ kind: 0, pad: 1, length: 2, value: 4 });
    expect(() => extend(8, base, { length: 'le32' })).toThrow('length is already in the base');
  });

  it('derives the type of a record', () => {
    const desc: RecordOf<typeof VRING_DESC> = { addr: 1n, len: 2, flags: 3, next: 4 };
    const config: Pick<RecordOf<typeof VIRTIO_NET_CONFIG>, 'mac'> = { mac: new Uint8Array(6) };
    // @ts-expect-error a 64-bit field is a bigint
    const wrong: typeof desc = { addr: 1, len: 2, flags: 3, next: 4 };
    expect([desc.addr, config.mac.length, wrong.addr]).toEqual([1n, 6, 1]);
  });
});

describe('literal bytes', () => {
  it('§2.7.5 a descriptor', () => {
    const view = viewOf(24, 0xff);
    VRING_DESC.write(view, 4, { addr: 0x8000_0001_2345_6000n, len: 0x1000, flags: 3, next: 0x102 });
    const desc = [
      0x00, 0x60, 0x45, 0x23, 0x01, 0x00, 0x00, 0x80, 0x00, 0x10, 0x00, 0x00, 0x03, 0x00, 0x02, 0x01,
    ];
    expect(bytesOf(view)).toEqual([0xff, 0xff, 0xff, 0xff, ...desc, 0xff, 0xff, 0xff, 0xff]);
  });

  it('xs_wire.h: the header of XS_READ of 5 bytes', () => {
    const bytes = Uint8Array.of(2, 0, 0, 0, 0xef, 0xbe, 0xad, 0xde, 7, 0, 0, 0, 5, 0, 0, 0);
    expect(XSD_SOCKMSG.read(new DataView(bytes.buffer), 0)).toEqual({
      type: 2,
      req_id: 0xdeadbeef,
      tx_id: 7,
      len: 5,
    });
  });

  it('grant_table.h: a failed map, with a negative status', () => {
    const view = viewOf(32);
    view.setInt16(18, -3, true);
    view.setBigUint64(0, 0xffff_8000_0000_0000n, true);
    const record = GNTTAB_MAP_GRANT_REF.read(view, 0);
    expect(record.status).toBe(-3);
    expect(record.host_addr).toBe(0xffff_8000_0000_0000n);
  });

  it('§4.1.4.4 a notify capability, base and extension', () => {
    const view = viewOf(20);
    const cap = {
      cap_vndr: 9,
      cap_next: 0x50,
      cap_len: 20,
      cfg_type: 2,
      bar: 4,
      id: 0,
      padding: new Uint8Array(2),
    };
    VIRTIO_PCI_NOTIFY_CAP.write(view, 0, {
      ...cap,
      offset: 0x3000,
      length: 0x1000,
      notify_off_multiplier: 4,
    });
    expect(bytesOf(view)).toEqual([9, 0x50, 20, 2, 4, 0, 0, 0, 0, 0x30, 0, 0, 0, 0x10, 0, 0, 4, 0, 0, 0]);
  });
});

describe('read and write', () => {
  const padded = layout(16, { small: 'u8', big: 'le64' });
  const arrays = layout(8, { bytes: ['u8', 3], words: ['sle16', 2] });

  it('write zeroes the padding', () => {
    const view = viewOf(16, 0xff);
    padded.write(view, 0, { small: 1, big: 2n });
    expect(bytesOf(view)).toEqual([1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
  });

  it('read copies bytes, so that a later write by the peer does not show', () => {
    const view = viewOf(8, 5);
    const { bytes } = arrays.read(view, 0);
    view.setUint8(0, 9);
    expect([...bytes]).toEqual([5, 5, 5]);
  });

  it('works in shared memory and in a view that does not start at 0', () => {
    const view = new DataView(new SharedArrayBuffer(32), 8, 16);
    arrays.write(view, 8, { bytes: Uint8Array.of(1, 2, 3), words: [-1, 0x7fff] });
    expect([...new Uint8Array(view.buffer, 16, 8)]).toEqual([1, 2, 3, 0, 0xff, 0xff, 0xff, 0x7f]);
    expect(arrays.read(view, 8)).toEqual({ bytes: Uint8Array.of(1, 2, 3), words: [-1, 0x7fff] });
    expect(arrays.read(view, 8).bytes.buffer).not.toBe(view.buffer);
  });

  it.each([-1, 0.5, 1, 16, NaN])('refuses a structure at %d of a view of its own size', (at) => {
    const view = viewOf(16);
    expect(() => padded.read(view, at)).toThrow(RangeError);
    expect(() => padded.write(view, at, { small: 0, big: 0n })).toThrow(RangeError);
  });

  it.each([
    ['too large', { small: 256, big: 0n }],
    ['negative', { small: -1, big: 0n }],
    ['fractional', { small: 0.5, big: 0n }],
    ['a bigint beyond 64 bits', { small: 0, big: 1n << 64n }],
    ['a number for 64 bits', { small: 0, big: 1 as unknown as bigint }],
    ['a bigint for 8 bits', { small: 1n as unknown as number, big: 0n }],
  ])('refuses a value that is %s, and writes nothing', (_what, value) => {
    const view = viewOf(16, 0xaa);
    expect(() => padded.write(view, 0, value)).toThrow(RangeError);
    expect(bytesOf(view)).toEqual(Array.from({ length: 16 }, () => 0xaa));
  });

  it('refuses an array of another length', () => {
    expect(() => arrays.write(viewOf(8), 0, { bytes: new Uint8Array(4), words: [0, 0] })).toThrow(
      'bytes has 3 items, got 4',
    );
    expect(() => arrays.write(viewOf(8), 0, { bytes: new Uint8Array(3), words: [0] })).toThrow(
      'words has 2 items, got 1',
    );
  });
});

const widths: Readonly<Record<ScalarType, number>> = { u8: 1, s8: 1, le16: 2, sle16: 2, le32: 4, le64: 8 };
const types = fc.array(fc.constantFrom(...(Object.keys(widths) as ScalarType[])), {
  minLength: 1,
  maxLength: 12,
});

const up = (at: number, align: number): number => at + ((align - (at % align)) % align);

/** The size by the C rules, counted another way than `layout` does. */
function sizeOf(fields: readonly ScalarType[]): number {
  const end = fields.reduce((at, type) => up(at, widths[type]) + widths[type], 0);
  return up(end, Math.max(...fields.map((type) => widths[type])));
}

describe('any structure', () => {
  it('is read as it was written, and fields do not overlap', () => {
    const words64 = fc.infiniteStream(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }));
    fc.assert(
      fc.property(types, words64, (fields, words) => {
        const declared = Object.fromEntries(fields.map((type, i) => [`f${i}`, type])) satisfies FieldTypes;
        const any = layout(sizeOf(fields), declared);
        const value = Object.fromEntries(
          fields.map((type, i) => {
            const word = words.next().value!;
            const bits = widths[type] * 8;
            if (type === 'le64') return [`f${i}`, word];
            return [
              `f${i}`,
              Number(type.startsWith('s') ? BigInt.asIntN(bits, word) : BigInt.asUintN(bits, word)),
            ];
          }),
        );
        const view = viewOf(any.size + 8, 0xff);
        any.write(view, 3, value);
        expect(any.read(view, 3)).toEqual(value);
        expect(bytesOf(view).slice(0, 3)).toEqual([0xff, 0xff, 0xff]);
        expect(bytesOf(view).slice(any.size + 3)).toEqual([0xff, 0xff, 0xff, 0xff, 0xff]);
      }),
    );
  });
});
