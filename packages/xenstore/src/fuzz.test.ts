import { fc, test } from '@fast-check/vitest';
import { XS_ERROR, XS_READ, XS_WATCH_EVENT } from '@virtlab/abi/xs-wire';
import { describe, expect } from 'vitest';
import { ScriptConnection } from './conformance-script.ts';
import { createXenstore } from './create-xenstore.ts';
import { memoryStreamPair } from './memory-stream.ts';
import { encodePacket } from './wire.ts';

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
  strings(fc.constantFrom('quota', 'check', 'print', 'help'), number),
  fc.string({ maxLength: 30 }),
);
const request = fc.record({
  type: fc.oneof(
    { weight: 20, arbitrary: fc.integer({ min: 0, max: 23 }) },
    { weight: 1, arbitrary: fc.nat() },
  ),
  txId: fc.oneof(
    { weight: 3, arbitrary: fc.constant(0) },
    { weight: 2, arbitrary: fc.integer({ min: 1, max: 3 }) },
  ),
  payload,
  connection: fc.nat({ max: 5 }),
});

describe('the server under fire', () => {
  test.prop([fc.array(request, { minLength: 1, maxLength: 120 }), fc.integer({ min: 1, max: 64 })], {
    numRuns: 150,
  })('answers every request once, in order, and the tree stays sound', async (requests, capacitySize) => {
    const xenstore = createXenstore({ quotas: { nodes: 12, watches: 3, memorySize: 4000 } });
    const connections = [0, 0, 5, 5, 6, 7].map((domid) => {
      const [clientEnd, serverEnd] = memoryStreamPair({ capacitySize });
      xenstore.server.accept(serverEnd, { domid, privileged: domid === 0 });
      return new ScriptConnection(clientEnd);
    });
    const expected = connections.map((): { reqId: number; type: number }[] => []);
    for (const { type, txId, payload: text, connection } of requests) {
      const ascii = text.replaceAll(/[^\0-\u00ff]/g, '?');
      expected[connection]!.push({ reqId: connections[connection]!.send(type, txId, ascii), type });
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

  test.prop([fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 30 })], { numRuns: 100 })(
    'survives arbitrary bytes on one connection; another is served as ever',
    async (chunks) => {
      const xenstore = createXenstore();
      const [[bad, badEnd], [good, goodEnd]] = [memoryStreamPair(), memoryStreamPair()];
      xenstore.server.accept(badEnd, { domid: 5, privileged: false });
      xenstore.server.accept(goodEnd, { domid: 0, privileged: true });
      const canary = new ScriptConnection(good);
      for (const chunk of chunks) {
        bad.send(chunk);
        canary.send(XS_READ, 0, '/tool\0');
        expect(await canary.next()).toMatchObject({ type: XS_READ });
      }
      expect(xenstore.store.verify()).toEqual([]);
    },
  );

  test.prop([fc.array(request, { maxLength: 300 })], { numRuns: 30 })(
    'holds a bounded amount for clients that never read',
    async (requests) => {
      const limits = { outputSize: 2000, backlogSize: 4000, inputSize: 2000 };
      const xenstore = createXenstore({ limits });
      const streams = [0, 0, 5, 5, 6, 7].map((domid) => {
        const [clientEnd, serverEnd] = memoryStreamPair({ capacitySize: 256 });
        xenstore.server.accept(serverEnd, { domid, privileged: domid === 0 });
        return clientEnd;
      });
      for (const { type, txId, payload: text, connection } of requests) {
        const ascii = text.replaceAll(/[^\0-\u00ff]/g, '?');
        streams[connection]!.send(encodePacket(type, 1, txId, ascii));
        await Promise.resolve();
        for (const { outputSize } of xenstore.statistics().connections)
          expect(outputSize).toBeLessThan(4000 + 4112);
      }
      xenstore.close();
      xenstore.assertQuiescent();
    },
  );
});
