import { fc, test } from '@fast-check/vitest';
import { XENSTORE_PAYLOAD_MAX, XSD_SOCKMSG, XS_ERROR, XS_READ, XS_WATCH_EVENT } from '@virtlab/abi/xs-wire';
import { describe, expect } from 'vitest';
import { toBytes } from './byte-string.ts';
import { ScriptConnection } from './conformance-script.ts';
import { createXenstore } from './create-xenstore.ts';
import { memoryStreamPair } from './memory-stream.ts';
import { XENSTORE_PROFILES } from './profiles.ts';
import { encodePacket } from './wire.ts';

const SEED = Number(process.env['VIRTLAB_SEED'] ?? Date.now() % 2 ** 31);
const CAMPAIGN = Number(process.env['VIRTLAB_CAMPAIGN'] ?? 1);
const runs = (count: number): { seed: number; numRuns: number } => ({
  seed: SEED,
  numRuns: Math.ceil(count * CAMPAIGN),
});

const name = fc.constantFrom('a', 'b', 'c', '@x');
const path = fc.oneof(
  { weight: 8, arbitrary: fc.array(name, { maxLength: 4 }).map((names) => `/${names.join('/')}`) },
  { weight: 2, arbitrary: fc.array(name, { minLength: 1, maxLength: 3 }).map((names) => names.join('/')) },
  {
    weight: 1,
    arbitrary: fc.constantFrom('@releaseDomain', '@introduceDomain', '', '/a/', '//', '/a b', '/tool'),
  },
);
const strings = (...parts: fc.Arbitrary<string>[]): fc.Arbitrary<string> =>
  fc.tuple(...parts).map((found) => found.map((part) => `${part}\0`).join(''));
const permission = fc
  .tuple(fc.constantFrom('n', 'r', 'w', 'b', 'x'), fc.constantFrom(0, 5, 6, 99_999))
  .map(([letter, domid]) => `${letter}${domid}`);
const number = fc.constantFrom('0', '5', '6', '9', '-1', 'x');
const payload = fc.oneof(
  strings(path),
  fc.tuple(strings(path), fc.string({ maxLength: 40 })).map((parts) => parts.join('')),
  strings(path, fc.constantFrom('t', 'u', '')),
  strings(path, permission, permission),
  fc.constantFrom('T\0', 'F\0', '\0', ''),
  strings(number, number, number),
  strings(fc.constantFrom('quota', 'check', 'print', 'help', 'log', 'watches', 'statistics'), number),
  strings(path, fc.constantFrom('t', 'u'), number),
  strings(fc.constantFrom('nodes', 'watches', '5', ''), number, number),
  fc.string({ maxLength: 30 }),
);
const request = fc.record({
  type: fc.oneof(
    { weight: 20, arbitrary: fc.integer({ min: 0, max: 28 }) },
    { weight: 1, arbitrary: fc.nat() },
  ),
  txId: fc.oneof(
    { weight: 3, arbitrary: fc.constant(0) },
    { weight: 2, arbitrary: fc.integer({ min: 1, max: 3 }) },
  ),
  payload,
  connection: fc.nat({ max: 5 }),
});

/** One frame that is wrong in one way, or arbitrary bytes. */
const malformedFrame = fc.oneof(
  fc.tuple(request, fc.nat({ max: 40 })).map(([{ type, txId, payload: text }, cut]) => {
    const bytes = encodePacket(type, 7, txId, latin1(text));
    return bytes.subarray(0, Math.max(1, bytes.length - cut));
  }),
  fc
    .tuple(request, fc.constantFrom(XENSTORE_PAYLOAD_MAX + 1, 0x1_0000, 0x7fff_ffff, 0xffff_ffff))
    .map(([{ type, txId, payload: text }, size]) => {
      const bytes = encodePacket(type, 7, txId, latin1(text));
      new DataView(bytes.buffer).setUint32(XSD_SOCKMSG.offset.len, size, true);
      return bytes;
    }),
  fc.tuple(fc.integer({ min: 1, max: 22 }), fc.uint8Array({ maxLength: 60 })).map(([type, payload_]) => {
    return encodePacket(type, 7, 0, payload_);
  }),
  fc.uint8Array({ minLength: 1, maxLength: 200 }),
);

function latin1(text: string): string {
  return text.replaceAll(/[^\0-\u00ff]/g, '?');
}

describe.each([...XENSTORE_PROFILES.values()])('the server under fire, $name', (profile) => {
  test.prop(
    [fc.array(request, { minLength: 1, maxLength: 120, size: 'max' }), fc.integer({ min: 1, max: 64 })],
    runs(100),
  )('answers every request once, in order, and the tree stays sound', async (requests, capacitySize) => {
    const quotas = { nodes: 12, watches: 3, memorySize: 4000 };
    const xenstore = createXenstore({ profile, quotas, controlExtensions: true });
    const connections = [0, 0, 5, 5, 6, 7].map((domid) => {
      const [clientEnd, serverEnd] = memoryStreamPair({ capacitySize });
      xenstore.server.accept(serverEnd, { domid, privileged: domid === 0 });
      return new ScriptConnection(clientEnd);
    });
    const expected = connections.map((): { reqId: number; type: number }[] => []);
    for (const { type, txId, payload: text, connection } of requests) {
      // That daemon answers a request without payload when more bytes arrive: the suite of its profile has it.
      const sent = profile.emptyRequestsWait && text === '' ? '\0' : latin1(text);
      expected[connection]!.push({ reqId: connections[connection]!.send(type, txId, sent), type });
    }
    await Promise.all(
      connections.map(async (connection, index) => {
        for (const { reqId, type } of expected[index]!) {
          let reply = await connection.next();
          while (reply?.type === XS_WATCH_EVENT && reply.reqId === 0) reply = await connection.next();
          if (reply === undefined) return; // its domain was released
          expect(reply.reqId).toBe(reqId);
          expect([type, XS_ERROR]).toContain(reply.type);
        }
      }),
    );
    expect(xenstore.store.verify()).toEqual([]);
    xenstore.close();
    xenstore.assertQuiescent();
    for (const use of xenstore.store.use()) {
      expect(use).toMatchObject({
        watchCount: 0,
        transactionCount: 0,
        outstandingCount: 0,
        connectionCount: 0,
      });
    }
  });

  test.prop(
    [
      fc.array(malformedFrame, { maxLength: 30, size: 'max' }),
      fc.constantFrom(0, 5),
      fc.integer({ min: 1, max: 300 }),
    ],
    runs(100),
  )(
    'survives malformed frames, in any fragments, and a client that dies in the middle; another is served as ever',
    async (frames, domid, fragmentSize) => {
      const xenstore = createXenstore({ profile });
      const [[bad, badEnd], [good, goodEnd]] = [memoryStreamPair(), memoryStreamPair()];
      xenstore.server.accept(badEnd, { domid, privileged: domid === 0 });
      xenstore.server.accept(goodEnd, { domid: 0, privileged: true });
      const canary = new ScriptConnection(good);
      for (const frame of frames) {
        for (let at = 0; at < frame.length; at += fragmentSize) bad.send(frame.slice(at, at + fragmentSize));
        canary.send(XS_READ, 0, '/canary\0');
        const reply = await canary.next();
        expect(reply?.reqId).toBeGreaterThan(0);
        expect([XS_READ, XS_ERROR]).toContain(reply?.type);
      }
      expect(xenstore.store.verify()).toEqual([]);
      bad.close();
      canary.close();
      await canary.closed;
      await new Promise((turn) => setTimeout(turn));
      expect(xenstore.statistics().connections).toEqual([]);
      xenstore.assertQuiescent();
    },
  );

  test.prop([fc.array(request, { maxLength: 300, size: 'max' })], runs(20))(
    'holds a bounded amount for clients that never read',
    async (requests) => {
      const limits = { outputSize: 2000, backlogSize: 4000, inputSize: 2000 };
      const xenstore = createXenstore({ profile, limits });
      const streams = [0, 0, 5, 5, 6, 7].map((domid) => {
        const [clientEnd, serverEnd] = memoryStreamPair({ capacitySize: 256 });
        xenstore.server.accept(serverEnd, { domid, privileged: domid === 0 });
        return clientEnd;
      });
      for (const { type, txId, payload: text, connection } of requests) {
        streams[connection]!.send(encodePacket(type, 1, txId, toBytes(latin1(text))));
        await Promise.resolve();
        for (const { outputSize } of xenstore.statistics().connections)
          expect(outputSize).toBeLessThan(4000 + 4112);
      }
      xenstore.close();
      xenstore.assertQuiescent();
    },
  );
});
