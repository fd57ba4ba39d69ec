import { domId, evtchnPort } from '@virtlab/abi/brands';
import { XS_GET_DOMAIN_PATH, XS_READ, XS_WATCH, XS_WATCH_EVENT, XS_WRITE } from '@virtlab/abi/xs-wire';
import { describe, expect, it } from 'vitest';
import { ScriptConnection } from './conformance-script.ts';
import type { ByteStream } from './contract.ts';
import { type InProcessXenstore, createXenstore } from './create-xenstore.ts';
import { memoryStreamPair } from './memory-stream.ts';
import { encodePacket } from './wire.ts';

const DOM0 = domId(0);
const macrotask = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** The client's end of a stream that nobody reads from until it is attached. */
function rawConnection(xenstore: InProcessXenstore, domid: number, capacitySize: number = 1024): ByteStream {
  const [clientEnd, serverEnd] = memoryStreamPair({ capacitySize });
  xenstore.server.accept(serverEnd, { domid, privileged: domid === 0 });
  return clientEnd;
}

function outputSizes(xenstore: InProcessXenstore): number[] {
  return xenstore.statistics().connections.map(({ outputSize }) => outputSize);
}

describe('XenstoreServer', () => {
  it('send_event: a watcher that does not read costs memory by distinct events, not by changes', async () => {
    const xenstore = createXenstore();
    const sleeper = rawConnection(xenstore, 0);
    sleeper.send(encodePacket(XS_WATCH, 1, 0, '/w\0t\0'));
    const writer = xenstore.connect(DOM0);
    for (let i = 0; i < 2000; i++) await writer.write('/w', String(i));
    const [watcher] = xenstore.statistics().connections;
    expect(watcher!.outputSize).toBeLessThan(100);
    expect(watcher!.coalescedCount).toBeGreaterThan(1900);
    const awake = new ScriptConnection(sleeper);
    expect(await awake.next()).toMatchObject({ type: XS_WATCH });
    for (let i = 0; i < 3; i++) expect(await awake.next()).toMatchObject({ type: XS_WATCH_EVENT });
  });

  it('a privileged watcher that never reads is ended at the backlog limit; others do not notice', async () => {
    const xenstore = createXenstore({ limits: { backlogSize: 10_000 } });
    const sleeper = rawConnection(xenstore, 0);
    sleeper.send(encodePacket(XS_WATCH, 1, 0, '/w\0t\0'));
    const writer = xenstore.connect(DOM0);
    for (let i = 0; i < 1000; i++) {
      await writer.write(`/w/${i}`, '');
      expect(Math.max(...outputSizes(xenstore))).toBeLessThan(10_100);
    }
    expect(xenstore.statistics().connections).toHaveLength(1);
    expect(xenstore.store.watchCount).toBe(0);
  });

  it('a guest that never reads loses events at its memory quota, and keeps its connection', async () => {
    const xenstore = createXenstore({ quotas: { memorySize: 20_000 } });
    const tools = xenstore.connect(DOM0);
    await tools.mkdir('/w');
    await tools.setPermissions('/w', [{ domid: 0, access: 'r' }]);
    rawConnection(xenstore, 5).send(encodePacket(XS_WATCH, 1, 0, '/w\0t\0'));
    for (let i = 0; i < 1000; i++) await tools.write(`/w/${i}`, '');
    const use = xenstore.store.domain(5)!;
    expect(use.memorySize).toBeLessThan(20_000);
    expect(use.memorySize).toBeGreaterThan(15_000);
    expect(use.watchCount).toBe(1);
  });

  it('requests of a client that does not read its replies wait, without growing', async () => {
    const xenstore = createXenstore({ limits: { outputSize: 8192, inputSize: 4096 } });
    const tools = xenstore.connect(DOM0);
    await tools.write('/v', 'x'.repeat(4000));
    const greedy = rawConnection(xenstore, 0);
    let sentCount = 0;
    for (let round = 0; round < 500; round++) {
      const request = encodePacket(XS_READ, round, 0, '/v\0');
      if (greedy.send(request) < request.length) break;
      sentCount += 1;
      await macrotask();
    }
    expect(sentCount).toBeLessThan(500);
    expect(Math.max(...outputSizes(xenstore))).toBeLessThan(8192 + 4112);
    expect(await tools.readText('/v')).toHaveLength(4000);
    const awake = new ScriptConnection(greedy);
    for (let i = 0; i < sentCount; i++) expect(await awake.next()).toMatchObject({ type: XS_READ, reqId: i });
  });

  it('a client that dies without having read is forgotten', async () => {
    const xenstore = createXenstore({ limits: { outputSize: 2048, inputSize: 1024 } });
    const greedy = rawConnection(xenstore, 0, 256);
    const request = encodePacket(XS_READ, 1, 0, '/tool\0');
    for (let i = 0; i < 500; i++) {
      if (greedy.send(request) < request.length) break;
      await macrotask();
    }
    expect(outputSizes(xenstore)[0]).toBeGreaterThan(1024);
    greedy.close();
    await macrotask();
    expect(xenstore.statistics().connections).toEqual([]);
  });

  it('domain_can_read: a guest has 20 requests outstanding, including those whose events others have not read', async () => {
    const xenstore = createXenstore();
    const tools = xenstore.connect(DOM0);
    await tools.mkdir('/w');
    await tools.setPermissions('/w', [
      { domid: 0, access: 'n' },
      { domid: 5, access: 'b' },
    ]);
    const sleeper = rawConnection(xenstore, 0, 16);
    sleeper.send(encodePacket(XS_WATCH, 1, 0, '/w\0t\0').subarray(0, 16));
    sleeper.send(encodePacket(XS_WATCH, 1, 0, '/w\0t\0').subarray(16));
    await macrotask();
    sleeper.send(encodePacket(XS_WATCH, 1, 0, '/w\0t\0').subarray(16));
    await macrotask();
    const guest = new ScriptConnection(rawConnection(xenstore, 5, 65536));
    let replyCount = 0;
    void (async () => {
      while ((await guest.next()) !== undefined) replyCount += 1;
    })();
    for (let i = 0; i < 50; i++) guest.send(XS_WRITE, 0, `/w/${i}\0`);
    await macrotask();
    expect(replyCount).toBe(20);
    expect(xenstore.store.domain(5)!.outstandingCount).toBe(20);
    const awake = new ScriptConnection(sleeper);
    for (let i = 0; i < 52; i++) await awake.next();
    await macrotask();
    expect(replyCount).toBe(50);
    expect(xenstore.store.domain(5)!.outstandingCount).toBe(0);
  });

  it('a flood from one connection does not hold up the others: one request each in turn', async () => {
    const xenstore = createXenstore({ batchCount: 4, schedule: (run) => void setImmediate(run) });
    const flood = new ScriptConnection(rawConnection(xenstore, 0, 1 << 20));
    const polite = new ScriptConnection(rawConnection(xenstore, 0));
    const order: string[] = [];
    for (let i = 0; i < 400; i++) flood.send(XS_GET_DOMAIN_PATH, 0, '1\0');
    polite.send(XS_GET_DOMAIN_PATH, 0, '2\0');
    const drain = async (): Promise<void> => {
      for (let i = 0; i < 400; i++) {
        await flood.next();
        order.push('flood');
      }
    };
    const wait = async (): Promise<void> => {
      await polite.next();
      order.push('polite');
    };
    await Promise.all([drain(), wait()]);
    expect(order.indexOf('polite')).toBeLessThan(20);
  });

  it('a client that dies within a request, with a transaction and a watch, leaves nothing', async () => {
    const xenstore = createXenstore();
    const client = new ScriptConnection(rawConnection(xenstore, 0));
    client.send(XS_WATCH, 0, '/w\0t\0');
    await client.next();
    await client.next();
    client.sendBytes(encodePacket(XS_WRITE, 1, 0, '/a\0value').subarray(0, 19));
    client.close();
    await macrotask();
    xenstore.assertQuiescent();
    expect(xenstore.statistics()).toMatchObject({ connections: [], nodeCount: 3 });
  });

  it('INTRODUCE may take time: later requests of that client wait, others do not', async () => {
    const attached = Promise.withResolvers<undefined>();
    const xenstore = createXenstore({ domains: { attach: () => attached.promise } });
    const [slow, quick] = [xenstore.connect(DOM0), xenstore.connect(DOM0)];
    const order: string[] = [];
    const introducing = slow.introduce(domId(5), 1, evtchnPort(1)).then(() => order.push('introduced'));
    const reading = slow.read('/tool').then(() => order.push('read'));
    await quick.read('/tool');
    order.push('other');
    attached.resolve(undefined);
    await Promise.all([introducing, reading]);
    expect(order).toEqual(['other', 'introduced', 'read']);
    expect(await quick.isDomainIntroduced(domId(5))).toBe(true);
  });

  it('shutdownDomain fires @releaseDomain once, until RESUME', async () => {
    const xenstore = createXenstore();
    const tools = xenstore.connect(DOM0);
    await tools.introduce(domId(5), 1, evtchnPort(1));
    const heard: string[] = [];
    await tools.watch('@releaseDomain', ({ path }) => heard.push(path));
    await macrotask();
    heard.length = 0;
    xenstore.server.shutdownDomain(domId(5));
    xenstore.server.shutdownDomain(domId(5));
    await tools.read('/tool');
    expect(heard).toEqual(['@releaseDomain']);
    expect(await tools.isDomainIntroduced(domId(5))).toBe(true);
  });

  it('releaseDomain ends the domain’s connections before its nodes disappear', async () => {
    const xenstore = createXenstore();
    const tools = xenstore.connect(DOM0);
    await tools.write('/local/domain/5/x', '');
    await tools.setPermissions('/local/domain/5', [{ domid: 5, access: 'n' }]);
    await tools.introduce(domId(5), 1, evtchnPort(1));
    const guest = xenstore.connect(domId(5));
    const heard: string[] = [];
    await guest.watch('/local', ({ path }) => heard.push(path));
    await macrotask();
    xenstore.releaseDomain(domId(5));
    await guest.closed;
    expect(heard).toEqual(['/local']);
    expect(await tools.exists('/local/domain/5')).toBe(false);
    expect(xenstore.store.domain(5)).toBeUndefined();
    expect(xenstore.store.verify()).toEqual([]);
  });
});
