import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createNodeAioContext } from '@virtlab/aio/node';
import { UnixStream, UnixStreamServer, dupFd, openFdCount, socketPair } from '@virtlab/linux';
import { describeWithFfi } from '@virtlab/linux/testing';
import { DeviceHost } from '@virtlab/virtio';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { VhostUserBackendEnd } from './backend-options.ts';
import { type ListenVhostUserOptions, listenVhostUser, vhostUserStream } from './listen.ts';
import { serveVhostUser } from './serve.ts';
import { startSender } from './testing/channel-pair.ts';
import { HeldDevice } from './testing/held-device.ts';
import { until } from './testing/raw-peer.ts';

let directory: string;
let path: string;

function listen(options: Partial<ListenVhostUserOptions> = {}) {
  const aio = createNodeAioContext();
  const device = new HeldDevice();
  const host = new DeviceHost({ device, aio });
  const ends: VhostUserBackendEnd[] = [];
  const where = options.fd === undefined ? { path } : {};
  const listener = listenVhostUser({
    ...where,
    serve: (stream) => serveVhostUser(stream, { host, aio }),
    onEnd: (end) => ends.push(end),
    ...options,
  });
  const close = async (): Promise<void> => {
    await listener.close();
    aio[Symbol.dispose]();
  };
  return { listener, device, ends, close };
}

describeWithFfi('listening', () => {
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'virtlab-listen-'));
    path = join(directory, 'device.sock');
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  it('serves one connection at a time, the next after the last ended, and gives everything back', async () => {
    const before = openFdCount();
    const { listener, ends, close } = listen();
    const first = startSender(UnixStream.connect(path));
    const second = startSender(UnixStream.connect(path));
    expect(await first.request('GET_FEATURES', undefined)).toMatchObject({ ok: true });
    const waiting = second.request('GET_FEATURES', undefined);
    expect(await first.request('GET_QUEUE_NUM', undefined)).toMatchObject({ value: { value: 2n } });
    expect(listener.connections).toHaveLength(1);
    expect(second.pendingCount).toBe(1);
    first.close();
    expect(await waiting).toMatchObject({ ok: true });
    expect(ends).toEqual([{ fault: undefined, error: undefined }]);
    second.close();
    await until('both have ended', () => ends.length === 2);
    await close();
    expect(existsSync(path)).toBe(false);
    expect(openFdCount()).toBe(before);
  });

  it('a peer that breaks the protocol does not keep the next from being served', async () => {
    const { ends, close } = listen();
    const bad = UnixStream.connect(path);
    bad.send(new Uint8Array(12));
    await until('it has ended', () => ends.length === 1);
    expect(ends[0]?.fault).toMatchObject({ code: 'BAD_VERSION' });
    const good = startSender(UnixStream.connect(path));
    expect(await good.request('GET_FEATURES', undefined)).toMatchObject({ ok: true });
    good.close();
    bad.close();
    await close();
  });

  it('connections that have gone while they waited take no place from one that is there', async () => {
    const { ends, close } = listen();
    const first = startSender(UnixStream.connect(path));
    expect(await first.request('GET_FEATURES', undefined)).toMatchObject({ ok: true });
    for (let count = 0; count < 20; count += 1) {
      const gone = UnixStream.connect(path);
      if (count % 2 === 0) gone.send(new Uint8Array(12));
      gone.close();
    }
    const late = startSender(UnixStream.connect(path));
    const waiting = late.request('GET_FEATURES', undefined);
    expect(await first.request('GET_QUEUE_NUM', undefined)).toMatchObject({ ok: true });
    first.close();
    expect(await waiting).toMatchObject({ ok: true });
    late.close();
    await until('it has ended', () => ends.at(-1)?.fault === undefined);
    await close();
  });

  it('more than may wait are closed while those before them are there', async () => {
    const { close } = listen();
    const streams = Array.from({ length: 10 }, () => UnixStream.connect(path));
    const last = startSender(streams[9]!);
    expect(await last.request('GET_FEATURES', undefined)).toMatchObject({ ok: false });
    streams.forEach((stream) => stream.close());
    await close();
  });

  it('what cannot be served, or given back, is told, and the next is served', async () => {
    const before = openFdCount();
    const aio = createNodeAioContext();
    const host = new DeviceHost({ device: new HeldDevice(), aio });
    const [refusal, failure] = [new Error('not now'), new Error('not given back')];
    let count = 0;
    const { ends, close } = listen({
      serve(stream) {
        count += 1;
        if (count === 1) throw refusal;
        const backend = serveVhostUser(stream, { host, aio });
        return count === 2
          ? { ...backend, ended: backend.ended.then(() => Promise.reject(failure)) }
          : backend;
      },
    });
    const peers = Array.from({ length: 3 }, () => startSender(UnixStream.connect(path)));
    expect(await peers[0]!.request('GET_FEATURES', undefined)).toMatchObject({ ok: false });
    expect(await peers[1]!.request('GET_FEATURES', undefined)).toMatchObject({ ok: true });
    peers[1]!.close();
    expect(await peers[2]!.request('GET_FEATURES', undefined)).toMatchObject({ ok: true });
    expect(ends.map(({ error }) => error)).toEqual([refusal, failure]);
    for (const peer of peers) peer.close();
    await close();
    aio[Symbol.dispose]();
    expect(openFdCount()).toBe(before);
  });

  it('closing ends the connection and resets the device', async () => {
    const { listener, close } = listen();
    const sender = startSender(UnixStream.connect(path));
    await sender.request('GET_FEATURES', undefined);
    await close();
    expect(listener.connections).toEqual([]);
    expect(await sender.request('GET_FEATURES', undefined)).toMatchObject({ ok: false });
  });

  it('has the mode that is asked for, replaces a dead socket, and no file', async () => {
    const dead = UnixStreamServer.listen(path, () => {});
    const { close } = listen({ path: join(directory, 'other.sock'), mode: 0o660 });
    expect(statSync(join(directory, 'other.sock')).mode & 0o777).toBe(0o660);
    await close();
    expect(() => listen()).toThrow(/EADDRINUSE/);
    dead.close();
    writeFileSync(path, '');
    expect(() => listen()).toThrow(/EADDRINUSE/);
    expect(() => listen({ path, fd: 3 })).toThrow(TypeError);
  });

  it('takes a connected socket that somebody else opened', async () => {
    const aio = createNodeAioContext();
    const [ours, theirs] = socketPair();
    const host = new DeviceHost({ device: new HeldDevice(), aio });
    const backend = serveVhostUser(vhostUserStream(dupFd(theirs)), { host, aio });
    using other = UnixStream.fromFd(theirs);
    const sender = startSender(UnixStream.fromFd(ours));
    expect(await sender.request('GET_QUEUE_NUM', undefined)).toMatchObject({ ok: true });
    await backend.close();
    expect(other.closed).toBe(false);
    sender.close();
    aio[Symbol.dispose]();
  });
});
