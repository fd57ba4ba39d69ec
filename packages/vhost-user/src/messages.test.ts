import { domId } from '@virtlab/abi/brands';
import {
  VHOST_USER,
  VHOST_USER_BACKEND,
  VHOST_USER_CONFIG,
  VHOST_USER_INFLIGHT,
  VHOST_USER_MEMORY,
  VHOST_USER_MEMORY_REGION,
  VHOST_USER_MEM_REG_PADDING,
  VHOST_USER_XEN_MEMORY_REGION,
  VHOST_VRING_ADDR,
} from '@virtlab/abi/vhost-user';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BACKEND_REQUESTS, type MessageShape, REQUESTS } from './messages.ts';
import { type DecodeContext, U64, VRING_FD, VRING_NUM, VRING_STATE, viewOf } from './payload-codec.ts';
import { CONFIG } from './payload-device.ts';
import { INFLIGHT, MEMORY_REGION, MEMORY_TABLE, VRING_ADDRESSES } from './payload-memory.ts';
import {
  BACKEND_ARBITRARIES,
  QUEUE_COUNT,
  REPLY_ARBITRARIES,
  requestArbitraries,
} from './testing/payload-arbitraries.ts';

const CONTEXT: DecodeContext = { queueCount: QUEUE_COUNT, hasXenMmap: false };
const XEN: DecodeContext = { queueCount: QUEUE_COUNT, hasXenMmap: true };
const SEED = Number(process.env['VIRTLAB_SEED'] ?? Date.now() % 2 ** 31);
const RUNS = 60 * Number(process.env['VIRTLAB_CAMPAIGN'] ?? 1);

type AnyShape = MessageShape<unknown, unknown>;
type AnyArbitrary = fc.Arbitrary<unknown>;
const shapes = Object.entries(REQUESTS) as [keyof typeof REQUESTS, AnyShape][];
const backendShapes = Object.entries(BACKEND_REQUESTS) as [keyof typeof BACKEND_REQUESTS, AnyShape][];

/** Whether every value that the arbitrary gives comes back as it was written. */
function roundTrips(codec: AnyShape['payload'], arbitrary: AnyArbitrary, context: DecodeContext): boolean {
  const property = fc.property(arbitrary, (value) => {
    expect(codec.decode(codec.encode(value, context), context)).toEqual({ ok: true, value });
  });
  fc.assert(property, { seed: SEED, numRuns: RUNS });
  return true;
}

describe('"Front-end message types": every request', () => {
  it('has the number of the document, and no two have one', () => {
    for (const [name, { id }] of shapes) expect(id).toBe(VHOST_USER[name]);
    expect(new Set(shapes.map(([, { id }]) => id)).size).toBe(Object.keys(VHOST_USER).length);
    for (const [name, { id }] of backendShapes) expect(id).toBe(VHOST_USER_BACKEND[name]);
    expect(backendShapes).toHaveLength(Object.keys(VHOST_USER_BACKEND).length);
  });

  it.each(shapes)('%s is read as it was written', (name, shape) => {
    expect(roundTrips(shape.payload, requestArbitraries(false)[name] as AnyArbitrary, CONTEXT)).toBe(true);
    expect(roundTrips(shape.payload, requestArbitraries(true)[name] as AnyArbitrary, XEN)).toBe(true);
    const reply = REPLY_ARBITRARIES[name];
    if (reply !== undefined) roundTrips(shape.reply!, reply as AnyArbitrary, CONTEXT);
  });

  it.each(backendShapes)('back end: %s is read as it was written', (name, shape) => {
    expect(roundTrips(shape.payload, BACKEND_ARBITRARIES[name] as AnyArbitrary, CONTEXT)).toBe(true);
  });

  it('any bytes are a value or a fault, and never an exception', () => {
    const codecs = [...shapes, ...backendShapes].flatMap(([, shape]) =>
      shape.reply === undefined ? [shape.payload] : [shape.payload, shape.reply],
    );
    const property = fc.property(
      fc.constantFrom(...codecs),
      fc.oneof(
        fc.uint8Array({ maxLength: 400, size: 'max' }),
        fc.tuple(fc.nat(60), fc.nat(8)).map(([size, head]) => {
          const bytes = new Uint8Array(size * 8);
          if (bytes.length > 0) bytes[0] = head;
          return bytes;
        }),
      ),
      fc.constantFrom(CONTEXT, XEN),
      (codec, bytes, context) => {
        const decoded = codec.decode(bytes, context);
        return decoded.ok ? codec.encode(decoded.value, context).length >= 0 : decoded.fault.message !== '';
      },
    );
    const details = fc.check(property, { seed: SEED, numRuns: RUNS * 40 });
    expect(fc.defaultReportMessage(details)).toBeUndefined();
  });
});

/** A payload changed in one word, and what is said about it. */
function spoilt(bytes: Uint8Array, change: (view: DataView) => void): Uint8Array {
  const copy = bytes.slice();
  change(viewOf(copy));
  return copy;
}

const REGION = { guestAddress: 0n, size: 0x1000n, userAddress: 0x7f00_0000_0000n, mmapOffset: 0n };
const XEN_REGION = { ...REGION, xen: { kind: 'grant', isOnDemand: true, domid: domId(3) } } as const;
const { offset: AT } = VHOST_USER_XEN_MEMORY_REGION;

describe('payloads that are refused', () => {
  it('"Header": a payload shorter or longer than its type', () => {
    for (const [name, shape] of shapes) {
      if (name === 'CREATE_CRYPTO_SESSION') continue;
      expect(shape.payload.decode(new Uint8Array(3), CONTEXT)).toMatchObject({ fault: { code: 'BAD_SIZE' } });
    }
    expect(U64.decode(new Uint8Array(9), CONTEXT)).toMatchObject({ fault: { code: 'BAD_SIZE' } });
  });

  it('"Memory region description": empty, beyond 2^64, more than eight', () => {
    const single = MEMORY_REGION.encode(REGION, CONTEXT);
    const at = (field: keyof typeof AT) => VHOST_USER_MEM_REG_PADDING + AT[field];
    const cases: readonly (readonly [keyof typeof AT, bigint])[] = [
      ['memory_size', 0n],
      ['memory_size', (1n << 64n) - 1n],
      ['guest_phys_addr', (1n << 64n) - 0xfffn],
      ['userspace_addr', (1n << 64n) - 0xfffn],
      ['mmap_offset', (1n << 64n) - 0xfffn],
    ];
    for (const [field, value] of cases) {
      const bytes = spoilt(single, (view) => view.setBigUint64(at(field), value, true));
      expect(MEMORY_REGION.decode(bytes, CONTEXT)).toMatchObject({ fault: { code: 'BAD_VALUE' } });
    }
    const nine = new Uint8Array(VHOST_USER_MEMORY.size + 9 * VHOST_USER_MEMORY_REGION.size);
    nine[0] = 9;
    expect(MEMORY_TABLE.decode(nine, CONTEXT)).toMatchObject({ fault: { code: 'BAD_VALUE' } });
    expect(() =>
      MEMORY_TABLE.encode(
        Array.from({ length: 9 }, () => REGION),
        CONTEXT,
      ),
    ).toThrow(RangeError);
  });

  it('"Multiple memory regions description": room for eight is taken for fewer, other sizes are not', () => {
    const two = MEMORY_TABLE.encode([REGION, { ...REGION, guestAddress: 0x10_0000n }], CONTEXT);
    const eight = new Uint8Array(VHOST_USER_MEMORY.size + 8 * VHOST_USER_MEMORY_REGION.size);
    eight.set(two);
    expect(MEMORY_TABLE.decode(eight, CONTEXT)).toMatchObject({ ok: true, value: { length: 2 } });
    const off = new Uint8Array(two.length + 8);
    off.set(two);
    expect(MEMORY_TABLE.decode(off, CONTEXT)).toMatchObject({ fault: { code: 'BAD_SIZE' } });
  });

  it('XEN_MMAP: no kind, both kinds, unknown bits, foreign on demand, a domain beyond 16 bits', () => {
    const good = MEMORY_REGION.encode(XEN_REGION, XEN);
    expect(MEMORY_REGION.decode(good, XEN)).toEqual({ ok: true, value: XEN_REGION });
    for (const flags of [0, 3, 0x100, 0x101, 0x103, 4, 0x8000_0001]) {
      const bytes = spoilt(good, (view) =>
        view.setUint32(VHOST_USER_MEM_REG_PADDING + AT.xen_mmap_flags, flags, true),
      );
      expect(MEMORY_REGION.decode(bytes, XEN)).toMatchObject({ fault: { code: 'BAD_VALUE' } });
    }
    const far = spoilt(good, (view) => view.setUint32(VHOST_USER_MEM_REG_PADDING + AT.domid, 0x1_0000, true));
    expect(MEMORY_REGION.decode(far, XEN)).toMatchObject({ fault: { code: 'BAD_VALUE' } });
    expect(MEMORY_REGION.decode(good, CONTEXT)).toMatchObject({ fault: { code: 'BAD_SIZE' } });
    expect(() => MEMORY_REGION.encode(REGION, XEN)).toThrow(RangeError);
  });

  it('"Vring address description": misaligned areas, unknown flags, no such queue', () => {
    const good = VRING_ADDRESSES.encode(
      {
        index: 0,
        isLogged: true,
        descriptorArea: 0x1000n,
        driverArea: 0x2000n,
        deviceArea: 0x3000n,
        logAddress: 0n,
      },
      CONTEXT,
    );
    const { offset } = VHOST_VRING_ADDR;
    const spoil: readonly ((view: DataView) => void)[] = [
      (view) => view.setUint8(offset.desc, 8),
      (view) => view.setUint8(offset.avail, 1),
      (view) => view.setUint8(offset.used, 2),
      (view) => view.setUint32(offset.flags, 2, true),
      (view) => view.setUint32(offset.index, QUEUE_COUNT, true),
    ];
    for (const change of spoil) {
      const decoded = VRING_ADDRESSES.decode(spoilt(good, change), CONTEXT);
      expect(decoded).toMatchObject({ fault: { code: 'BAD_VALUE' } });
    }
  });

  it('vring messages: no such queue, a size no ring has, unknown bits', () => {
    expect(VRING_STATE.decode(VRING_STATE.encode({ index: QUEUE_COUNT, num: 0 }, CONTEXT), CONTEXT).ok).toBe(
      false,
    );
    expect(VRING_NUM.decode(VRING_NUM.encode({ index: 0, num: 0x8001 }, CONTEXT), CONTEXT).ok).toBe(false);
    for (const word of [0x200n, 1n << 63n, BigInt(QUEUE_COUNT)]) {
      expect(VRING_FD.decode(U64.encode(word, CONTEXT), CONTEXT)).toMatchObject({
        fault: { code: 'BAD_VALUE' },
      });
    }
    expect(VRING_FD.decode(U64.encode(0x101n, CONTEXT), CONTEXT)).toEqual({
      ok: true,
      value: { index: 1, hasFd: false },
    });
  });

  it('"Virtio device config space": empty, beyond the limit, sizes that disagree, unknown flags', () => {
    const good = CONFIG.encode({ offset: 200, bytes: new Uint8Array(56), isMigration: false }, CONTEXT);
    const { offset, size } = VHOST_USER_CONFIG;
    expect(CONFIG.decode(good, CONTEXT).ok).toBe(true);
    const spoil: readonly (readonly [(view: DataView) => void, string])[] = [
      [(view) => view.setUint32(offset.offset, 201, true), 'BAD_VALUE'],
      [(view) => view.setUint32(offset.offset, 0xffff_ffff, true), 'BAD_VALUE'],
      [(view) => view.setUint32(offset.size, 55, true), 'BAD_SIZE'],
      [(view) => view.setUint32(offset.size, 0xffff_fff0, true), 'BAD_SIZE'],
      [(view) => view.setUint32(offset.flags, 2, true), 'BAD_VALUE'],
    ];
    for (const [change, code] of spoil) {
      expect(CONFIG.decode(spoilt(good, change), CONTEXT)).toMatchObject({ fault: { code } });
    }
    expect(CONFIG.decode(new Uint8Array(size), CONTEXT)).toMatchObject({ fault: { code: 'BAD_VALUE' } });
  });

  it('"Inflight description": 24 bytes are sent, 20 are taken; no queues, queues too many or too large are not', () => {
    const area = { size: 0x1000n, offset: 0n, queueCount: 1, queueSize: 128 };
    const bytes = INFLIGHT.encode(area, CONTEXT);
    expect(bytes).toHaveLength(24);
    expect(INFLIGHT.decode(bytes.slice(0, 20), CONTEXT)).toEqual({ ok: true, value: area });
    const { offset } = VHOST_USER_INFLIGHT;
    for (const [field, value] of [
      ['num_queues', 0],
      ['num_queues', QUEUE_COUNT + 1],
      ['queue_size', 0],
      ['queue_size', 0x8001],
    ] as const) {
      const decoded = INFLIGHT.decode(
        spoilt(bytes, (view) => view.setUint16(offset[field], value, true)),
        CONTEXT,
      );
      expect(decoded).toMatchObject({ fault: { code: 'BAD_VALUE' } });
    }
  });
});
