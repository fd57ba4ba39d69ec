import { describe, expect, it } from 'vitest';
import { fc } from '@fast-check/vitest';
import { ACCEPT_ALL, ACCEPT_CSUM, type FrameOffload, OffloadWords } from './frame-offload.ts';
import { BytesFrame } from './frame-views.ts';
import { addSum, fold, summableBytes } from './internet-checksum.ts';
import type { FrameView } from './network.ts';
import { OffloadCheck } from './offload-check.ts';
import { SoftwareOffload } from './software-offload.ts';
import { hex } from './testing/frames.ts';
import {
  type BuiltPacket,
  type PacketShape,
  buildPacket,
  leaveChecksumOpen,
  referenceSegments,
  slowSum,
} from './testing/internet-packets.ts';

const shapes: fc.Arbitrary<PacketShape> = fc.record({
  version: fc.constantFrom(4 as const, 6 as const),
  protocol: fc.constantFrom(6 as const, 17 as const),
  payloadSize: fc.integer({ min: 1, max: 5000 }),
  hasVlan: fc.boolean(),
  ipOptionSize: fc.constantFrom(0, 8, 24),
  tcpOptionSize: fc.constantFrom(0, 12, 40),
  tcpFlags: fc.nat(255),
  seed: fc.nat(200),
  sequence: fc.nat(0xffff_ffff),
  id: fc.nat(0xffff),
});

function offloadOf({ protocol, version }: PacketShape, packet: BuiltPacket, gsoSize: number): FrameOffload {
  const type = protocol === 17 ? 5 : version === 4 ? 1 : 4;
  const { transportAt: csumStart, checksumOffset: csumOffset, payloadAt: hdrLen } = packet;
  return { flags: 1, gsoType: gsoSize === 0 ? 0 : type, hdrLen, gsoSize, csumStart, csumOffset };
}

/** What comes out, copied in two pieces to cross the border between headers and payload anywhere. */
function finish(
  bytes: Uint8Array,
  offload: FrameOffload,
  accept: number,
  cut: number,
): { frame: string; offload: FrameOffload }[] {
  const out: { frame: string; offload: FrameOffload }[] = [];
  const take = (frame: FrameView): boolean => {
    const copy = new Uint8Array(frame.size);
    const first = Math.min(cut, frame.size);
    frame.copy(0, first, copy, 0);
    frame.copy(first, frame.size - first, copy, first);
    out.push({ frame: hex(copy), offload: { ...frame.offload } });
    return true;
  };
  const words = new OffloadWords().copy(offload);
  const view = new BytesFrame().set(bytes, 0, bytes.length, words);
  expect(new OffloadCheck().pass(words, view, ACCEPT_ALL)).toBe(true);
  expect(new SoftwareOffload().finish(view, accept, { take })).toBe(true);
  return out;
}

describe('checksums', () => {
  it('RFC 1071: the sum of any range is that of its words one by one', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(100), fc.nat(0xffff), (bytes, skip, sum) => {
        const from = Math.min(skip, bytes.length);
        const summable = summableBytes(bytes.length);
        summable.bytes.set(bytes);
        const found = addSum(sum, summable, from, bytes.length - from);
        const expected = fold(slowSum([...bytes.subarray(from)]) + sum);
        expect(found % 0xffff).toBe(expected % 0xffff);
      }),
    );
  });

  it('§5.1.9.2.1 a packet whose checksum was left open comes out as it was built', () => {
    fc.assert(
      fc.property(shapes, fc.nat(200), (shape, cut) => {
        const packet = buildPacket(shape);
        const out = finish(leaveChecksumOpen(packet, shape), offloadOf(shape, packet, 0), 0, cut);
        expect(out.map(({ frame }) => frame)).toEqual([hex(packet.bytes)]);
      }),
      { numRuns: 150 },
    );
  });
});

describe('segments', () => {
  it('are those that a slow reference builds from nothing: lengths, ids, sequence, flags, checksums', () => {
    fc.assert(
      fc.property(shapes, fc.integer({ min: 40, max: 3000 }), fc.nat(200), (shape, gsoSize, cut) => {
        const packet = buildPacket(shape);
        const out = finish(leaveChecksumOpen(packet, shape), offloadOf(shape, packet, gsoSize), 0, cut);
        expect(out.map(({ frame }) => frame)).toEqual(referenceSegments(shape, gsoSize).map(hex));
        expect(out.every(({ offload }) => offload.flags === 0 && offload.gsoType === 0)).toBe(true);
      }),
      { numRuns: 150 },
    );
  });

  it('leave their checksums open for who takes that, and finished they are the same', () => {
    fc.assert(
      fc.property(shapes, fc.integer({ min: 40, max: 3000 }), (shape, gsoSize) => {
        const packet = buildPacket(shape);
        const open = leaveChecksumOpen(packet, shape);
        const out = finish(open, offloadOf(shape, packet, gsoSize), ACCEPT_CSUM, 0);
        const finished = out.flatMap(({ frame, offload }) => {
          expect(offload).toMatchObject({ flags: 1, gsoType: 0 });
          return finish(Buffer.from(frame, 'hex'), offload, 0, 0);
        });
        expect(finished.map(({ frame }) => frame)).toEqual(referenceSegments(shape, gsoSize).map(hex));
      }),
      { numRuns: 60 },
    );
  });

  it('of 64 KiB', () => {
    const shape: PacketShape = { version: 4, protocol: 6, payloadSize: 65_000, tcpFlags: 0x99 };
    const packet = buildPacket(shape);
    const out = finish(leaveChecksumOpen(packet, shape), offloadOf(shape, packet, 1448), 0, 60);
    expect(out.map(({ frame }) => frame)).toEqual(referenceSegments(shape, 1448).map(hex));
  });

  it('are not made of bytes that changed since they were checked', () => {
    const shape: PacketShape = { version: 4, protocol: 6, payloadSize: 3000 };
    const packet = buildPacket(shape);
    const software = new SoftwareOffload();
    const bytes = packet.bytes.slice();
    bytes[packet.networkAt] = 0x4f;
    const view = new BytesFrame().set(bytes, 0, bytes.length, offloadOf(shape, packet, 1000));
    expect(software.finish(view, 0, { take: () => true })).toBe(false);
    expect(software.statistics.refused).toBe(1);
  });
});

describe('case 46: what a header asks for is refused unless it fits the frame', () => {
  const shape: PacketShape = { version: 4, protocol: 6, payloadSize: 3000 };
  const packet = buildPacket(shape);
  const good = offloadOf(shape, packet, 1000);
  const passes = (offload: Partial<FrameOffload>, accept = ACCEPT_ALL, bytes = packet.bytes): boolean => {
    const words = new OffloadWords().copy({ ...good, ...offload });
    return new OffloadCheck().pass(words, new BytesFrame().set(bytes), accept);
  };

  it.each([
    ['a checksum field past the end', { gsoType: 0, csumOffset: 0xffff }],
    [
      'a checksum field that begins in the last byte',
      { gsoType: 0, csumStart: packet.bytes.length - 1, csumOffset: 0 },
    ],
    ['a checksum of the Ethernet header', { gsoType: 0, csumStart: 13, csumOffset: 0 }],
    ['segmentation without a checksum', { flags: 0 }],
    ['segments of 0 bytes', { gsoSize: 0 }],
    ['too many segments', { gsoSize: 1 }],
    ['another version of IP', { gsoType: 4 }],
    ['another protocol', { gsoType: 5 }],
    ['UDP fragmentation', { gsoType: 3 }],
    ['an unknown type', { gsoType: 9 }],
    ['a tunnel', { gsoType: 0x21 }],
    ['ECN without segmentation', { gsoType: 0x80 }],
    ['ECN with UDP', { gsoType: 0x85 }],
    ['a checksum that does not begin at the TCP header', { csumStart: packet.transportAt + 4 }],
    ['a checksum that is not TCP’s', { csumOffset: 6 }],
  ])('%s', (_what, offload) => {
    expect(passes({})).toBe(true);
    expect(passes({ gsoType: 0x81 }), 'ECN').toBe(true);
    expect(passes(offload)).toBe(false);
  });

  it('what was not agreed on', () => {
    expect(passes({}, ACCEPT_CSUM)).toBe(false);
    expect(passes({ gsoType: 0 }, ACCEPT_CSUM)).toBe(true);
    expect(passes({ gsoType: 0 }, 0)).toBe(false);
  });

  it('§5.1.9.2.2 hdr_len is not relied on', () => {
    const words = new OffloadWords().copy({ ...good, hdrLen: 0xffff });
    expect(new OffloadCheck().pass(words, new BytesFrame().set(packet.bytes), ACCEPT_ALL)).toBe(true);
    expect(words.hdrLen).toBe(packet.payloadAt);
  });

  it('anything at all is either refused or can be finished', () => {
    const word = fc.oneof(fc.nat(0xffff), fc.nat(200));
    const words = fc.record({
      flags: fc.nat(255),
      gsoType: fc.constantFrom(0, 1, 3, 4, 5, 0x81, 0x84),
      hdrLen: word,
      gsoSize: word,
      csumStart: fc.oneof(word, fc.constantFrom(34, 54)),
      csumOffset: fc.oneof(word, fc.constantFrom(6, 16)),
    });
    fc.assert(
      fc.property(
        shapes,
        fc.array(fc.tuple(fc.nat(120), fc.nat(255)), { maxLength: 4 }),
        words,
        (any, changes, raw) => {
          const { bytes } = buildPacket(any);
          for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
          const offload = new OffloadWords().copy(raw);
          const view = new BytesFrame().set(bytes, 0, bytes.length, offload);
          if (!new OffloadCheck().pass(offload, view, ACCEPT_ALL)) return;
          const sizes: number[] = [];
          new SoftwareOffload().finish(view, 0, { take: ({ size }) => sizes.push(size) > 0 });
          expect(sizes.length).toBeGreaterThan(0);
          expect(sizes.length).toBeLessThanOrEqual(2048);
        },
      ),
      { numRuns: 300 },
    );
  });
});
