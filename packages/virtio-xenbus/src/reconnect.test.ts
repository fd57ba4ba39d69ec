import { XenbusState } from '@virtlab/abi/xenbus';
import { DeviceHost, type DriverLink } from '@virtlab/virtio';
import { createDevice, detachDevice, offlineDevice, readState, removeDevice } from '@virtlab/xenbus';
import { describe, expect, it } from 'vitest';
import { Bench } from './testing/bench.ts';
import { bringUp } from './testing/drive.ts';
import { RawRing } from './testing/raw-ring.ts';
import { RigDevice } from './testing/rig-device.ts';
import { TinyDevice } from './testing/tiny-device.ts';
import { tellsOf } from './testing/tells-of.ts';

/** Both ends' states as they are written, `f4` for a frontend's Connected; each once in a row. */
async function recordStates({ rig, place }: Bench): Promise<string[]> {
  const seen: string[] = [];
  for (const [side, path] of [['f', place.frontendPath] as const, ['b', place.backendPath] as const]) {
    await rig.toolstack.watch(`${path}/state`, () => {
      void readState(rig.toolstack, path).then((state) => {
        const last = seen.findLast((each) => each.startsWith(side));
        if (last !== `${side}${state}`) seen.push(`${side}${state}`);
      });
    });
  }
  await rig.settle();
  seen.length = 0;
  return seen;
}

describe.each(['native', 'register-page'] as const)('%s: who moves first', (profile) => {
  it('online 0 and Closing: the frontend, of its own accord; then the backend ends', async () => {
    const bench = await Bench.create(profile);
    const link = await bench.connect();
    const seen = await recordStates(bench);
    const told = tellsOf(link);
    await bench.rig.run(offlineDevice(bench.rig.toolstack, bench.place.id));
    expect(await bench.rig.run(bench.backend.closed)).toBe('offline');
    await bench.rig.settle();
    expect(seen).toEqual(['b5', 'f5', 'f6', 'b6']);
    expect(told).toHaveLength(1);
    await bench.rig.toolstack.resetWatches();
    expect(await bench.end(link)).toEqual([]);
  });

  it('online 1 and Closing: the device is closed, and there again for who wants it', async () => {
    const bench = await Bench.create(profile);
    const link = await bench.connect();
    const seen = await recordStates(bench);
    const { toolstack } = bench.rig;
    await bench.rig.run(toolstack.write(`${bench.place.backendPath}/state`, String(XenbusState.Closing)));
    await bench.rig.until('closed', () => seen.at(-1) === 'b6');
    expect(seen).toEqual(['b5', 'f5', 'f6', 'b6']);
    await bench.rig.run(link[Symbol.asyncDispose]());
    const again = await bench.rig.run(bench.place.reconnect());
    await bench.rig.settle();
    expect(seen.slice(4)).toEqual(['f1', 'b2', 'f3', 'b4', 'f4']);
    await bench.exercise(again);
    await toolstack.resetWatches();
    expect(await bench.end(again)).toEqual([]);
  });

  it('Closing while nobody is connected: the backend alone goes to Closed', async () => {
    const bench = await Bench.create(profile);
    const seen = await recordStates(bench);
    await bench.rig.run(offlineDevice(bench.rig.toolstack, bench.place.id));
    expect(await bench.rig.run(bench.backend.closed)).toBe('offline');
    await bench.rig.settle();
    expect(seen).toEqual(['b5', 'b6']);
    await bench.rig.toolstack.resetWatches();
    expect(await bench.end()).toEqual([]);
  });

  it('online 0 when it is Closed already: that is the end', async () => {
    const bench = await Bench.create(profile);
    await bench.rig.run((await bench.connect())[Symbol.asyncDispose]());
    await bench.rig.settle();
    expect(await bench.states()).toBe('Closed Closed');
    await bench.rig.run(offlineDevice(bench.rig.toolstack, bench.place.id));
    expect(await bench.rig.run(bench.backend.closed)).toBe('offline');
    expect(await bench.end()).toEqual([]);
  });

  it('a backend that stops says Closing, hears the frontend’s, and then says Closed', async () => {
    const bench = await Bench.create(profile);
    const link = await bench.connect();
    const seen = await recordStates(bench);
    await bench.rig.run(bench.backend[Symbol.asyncDispose]());
    await bench.rig.settle();
    expect(seen.slice(0, 2)).toEqual(['b5', 'f5']);
    expect(seen.slice(2).toSorted()).toEqual(['b6', 'f6']);
    await bench.rig.toolstack.resetWatches();
    expect(await bench.end(link)).toEqual([]);
  });

  it('a driver that finds its directory Connected closes it first, step by step, with the backend', async () => {
    const bench = await Bench.create(profile);
    const crashed = await bench.connect();
    bench.place.frontend.store.close();
    const seen = await recordStates(bench);
    const store = bench.rig.xenstore.connect(bench.place.frontend.id);
    const link = await bench.rig.run(bench.place.connect(5000, store));
    await bench.rig.settle();
    expect(seen).toEqual(['f5', 'b5', 'f6', 'b6', 'f1', 'b2', 'f3', 'b4', 'f4']);
    await bench.exercise(link);
    await bench.rig.toolstack.resetWatches();
    await bench.rig.run(link[Symbol.asyncDispose]());
    await bench.rig.finish(crashed[Symbol.asyncDispose]());
    expect(await bench.end()).toEqual([]);
  });
});

describe.each(['native', 'register-page'] as const)('%s: a device that comes back', (profile) => {
  it('its process died and another one serves the directory', async () => {
    const bench = await Bench.create(profile, 2);
    const { rig, place } = bench;
    let link = await bench.connect();
    let backend = bench.backend;
    let store = place.backend.store;
    for (let round = 0; round < 3; round += 1) {
      const told = tellsOf(link);
      const ring = new RawRing(link.dma);
      await rig.run(bringUp(link, ring));
      store.close();
      expect(await rig.run(backend.closed)).toBe('xenstore lost');
      const host = new DeviceHost({ device: new TinyDevice(), aio: place.backend.aio });
      store = rig.xenstore.connect(place.backend.id);
      backend = await rig.run(place.serve(host, store));
      await rig.until('the driver is told', () => told.length === 1);
      expect(ring.free()).toBe(true);
      await rig.run(link[Symbol.asyncDispose]());
      link = await rig.run(place.reconnect());
      await work(bench, link, host);
    }
    await rig.run(link[Symbol.asyncDispose]());
    await rig.run(backend[Symbol.asyncDispose]());
    expect(rig.leaks()).toEqual([]);
  });

  it('in another domain, when the toolstack has made both directories anew', async () => {
    const bench = await Bench.create(profile, 2);
    const { rig, place } = bench;
    const link = await bench.connect();
    const told = tellsOf(link);
    rig.kill(place.backend);
    await rig.until('the driver is told', () => told.length === 1);
    await rig.run(link[Symbol.asyncDispose]());
    const reconnecting = place.reconnect();
    await rig.settle();
    await rig.run(removeDevice(rig.toolstack, place.id));
    await rig.settle();
    const next = new RigDevice(rig, place.frontend, await rig.addDomain(3), 0, profile);
    await next.plug();
    const host = new DeviceHost({ device: new TinyDevice(), aio: next.backend.aio });
    const backend = await rig.run(next.serve(host));
    const again = await rig.run(reconnecting);
    await work(bench, again, host);
    await rig.run(again[Symbol.asyncDispose]());
    await rig.run(backend[Symbol.asyncDispose]());
    expect(rig.leaks()).toEqual([]);
  });

  it('the wait begins before there is any directory, and outlasts several that come and go', async () => {
    const bench = await Bench.create(profile, 2);
    const { rig, place } = bench;
    await rig.run(place.unplug());
    expect(await rig.run(bench.backend.closed)).toBe('removed');
    const reconnecting = place.reconnect();
    for (let round = 0; round < 5; round += 1) {
      await place.plug();
      for (let turn = 0; turn < round; turn += 1) await Promise.resolve();
      await rig.run(place.unplug());
      await rig.settle();
    }
    await createDevice(rig.toolstack, { ...place.id, backendKeys: { profile, online: '0', state: '6' } });
    await rig.run(rig.toolstack.write(`${place.backendPath}/state`, '6'));
    await rig.settle();
    await place.plug();
    const host = new DeviceHost({ device: new TinyDevice(), aio: place.backend.aio });
    const backend = await rig.run(place.serve(host));
    const link = await rig.run(reconnecting);
    await work(bench, link, host);
    await rig.run(link[Symbol.asyncDispose]());
    await rig.run(backend[Symbol.asyncDispose]());
    expect(rig.leaks()).toEqual([]);
  });

  it('nobody has to wait for ever: a limit, a signal, or the end of the store ends it, and nothing is held', async () => {
    const bench = await Bench.create(profile, 2);
    const { rig, place } = bench;
    const waits = async (): Promise<unknown[]> => {
      const abort = new AbortController();
      const limited = place.reconnect({ waitMs: 300 }).catch((error: unknown) => error);
      const aborted = place.reconnect({ signal: abort.signal }).catch((error: unknown) => error);
      await rig.settle();
      abort.abort(new Error('shutting down'));
      return [await rig.finish(limited), await rig.finish(aborted)];
    };
    await rig.run(place.unplug());
    expect(await waits()).toMatchObject([{ code: 'ETIMEDOUT' }, { message: 'shutting down' }]);
    await place.plug();
    expect(await waits()).toMatchObject([{ code: 'ETIMEDOUT' }, { message: 'shutting down' }]);
    expect(rig.leaks()).toEqual([]);
    const lost = place.reconnect().catch((error: unknown) => error);
    await rig.settle();
    place.frontend.store.close();
    expect(await rig.finish(lost)).toMatchObject({ name: 'TransportError' });
    expect(rig.leaks()).toEqual([]);
  });

  it('a detached device is gone in order, or by force when its frontend does not answer', async () => {
    for (const isHung of [false, true]) {
      const bench = await Bench.create(profile, 2);
      const { rig, place } = bench;
      const link = await bench.connect();
      if (isHung) place.frontend.store.close();
      const force = new AbortController();
      const detaching = detachDevice(rig.toolstack, place.id, { signal: force.signal });
      await rig.settle();
      if (isHung) force.abort();
      expect(await rig.run(detaching)).toBe(!isHung);
      expect(await rig.run(rig.toolstack.exists(place.backendPath))).toBe(false);
      expect(['offline', 'removed', 'frontend gone']).toContain(await rig.run(bench.backend.closed));
      await rig.finish(link[Symbol.asyncDispose]());
      expect(await bench.end()).toEqual([]);
    }
  });
});

/** Runs one buffer through the device and resets it. */
async function work({ rig }: Bench, link: DriverLink, host: DeviceHost): Promise<void> {
  const ring = new RawRing(link.dma);
  await rig.run(bringUp(link, ring));
  ring.add(ring.addresses.descriptorArea, 16);
  link.transport.kick(0);
  await rig.until('the buffer is done', () => host.statistics[0]!.requests === 1);
  await rig.run(link.transport.writeStatus(0));
  expect(ring.free()).toBe(true);
}
