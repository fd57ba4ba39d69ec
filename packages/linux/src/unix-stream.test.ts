import { existsSync, linkSync, lstatSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { closeFd, openFdCount } from './fd.ts';
import { EventFd } from './event-fd.ts';
import { ffi } from './ffi.ts';
import { mapShared, memfdCreate } from './shared-memory.ts';
import { socketPair, unixAddress, unixSocket } from './socket-calls.ts';
import { startProgram } from './testing/child-process.ts';
import { describeWithFfi } from './testing/describe-with-ffi.ts';
import { runProgram } from './testing/run-program.ts';
import { UnixStream, type CloseReason, type UnixStreamOptions } from './unix-stream.ts';
import { UnixStreamServer } from './unix-stream-server.ts';

function pair(options: UnixStreamOptions = {}): [UnixStream, UnixStream] {
  const [a, b] = socketPair();
  return [UnixStream.fromFd(a, options), UnixStream.fromFd(b, options)];
}

async function closed(stream: UnixStream): Promise<CloseReason> {
  return new Promise((resolve) => stream.onClose(resolve));
}

/** Resolves when `size` bytes are there. */
async function receive(stream: UnixStream, size: number): Promise<{ bytes: Uint8Array; fds: number[] }> {
  const bytes = new Uint8Array(size);
  const fds: number[] = [];
  let at = 0;
  return new Promise((resolve) => {
    stream.onData((chunk, received) => {
      bytes.set(chunk, at);
      at += chunk.length;
      fds.push(...received);
      if (at === size) resolve({ bytes, fds });
    });
  });
}

let before = 0;
beforeEach(() => void (before = openFdCount()));
afterEach(() => {
  const left = openFdCount() - before;
  if (left !== 0) throw new Error(`${left} descriptors leaked`);
});

describeWithFfi('UnixStream', () => {
  it('unix(7) SCM_RIGHTS: descriptors arrive as new ones of the same open files', async () => {
    const [a, b] = pair();
    using event = EventFd.create();
    const memory = memfdCreate('test', 4096);
    a.send(new Uint8Array([1, 2, 3]), [event.fd, memory]);
    closeFd(memory);
    const { bytes, fds } = await receive(b, 3);
    expect([...bytes]).toEqual([1, 2, 3]);
    expect(fds).toHaveLength(2);
    using received = EventFd.fromFd(fds[0]!);
    using mapping = mapShared(fds[1]!, 4096);
    closeFd(fds[1]!);
    received.write();
    expect(event.read()).toBe(true);
    expect(mapping.size).toBe(4096);
    a.close();
    b.close();
  });

  it('carries 253 descriptors in a message and refuses 254', async () => {
    const [a, b] = pair();
    using event = EventFd.create();
    expect(() =>
      a.send(
        new Uint8Array(1),
        Array.from({ length: 254 }, () => event.fd),
      ),
    ).toThrow(RangeError);
    a.send(
      new Uint8Array(1),
      Array.from({ length: 253 }, () => event.fd),
    );
    const { fds } = await receive(b, 1);
    expect(new Set(fds).size).toBe(253);
    fds.forEach(closeFd);
    a.close();
    b.close();
  });

  it('a message of many chunks carries its descriptors once, with its first byte', async () => {
    const [a, b] = pair();
    using event = EventFd.create();
    const size = 190_000;
    a.send(new Uint8Array(size), [event.fd]);
    const counts: number[] = [];
    await new Promise<void>((resolve) => {
      let rest = size;
      b.onData((bytes, fds) => {
        counts.push(fds.length);
        fds.forEach(closeFd);
        rest -= bytes.length;
        if (rest === 0) resolve();
      });
    });
    expect(counts.length).toBeGreaterThan(1);
    expect(counts).toEqual([1, ...counts.slice(1).fill(0)]);
    a.close();
    b.close();
  });

  it('descriptors of several messages keep their order, and a chunk holds those of one message', async () => {
    const [a, b] = pair();
    using one = EventFd.create();
    using two = EventFd.create();
    a.send(new Uint8Array([1]));
    a.send(new Uint8Array([2]), [one.fd]);
    a.send(new Uint8Array([3]), [two.fd]);
    const chunks: number[] = [];
    const fds: number[] = [];
    await new Promise<void>((resolve) => {
      b.onData((_, received) => {
        chunks.push(received.length);
        fds.push(...received);
        if (fds.length === 2) resolve();
      });
    });
    expect(Math.max(...chunks)).toBe(1);
    using first = EventFd.fromFd(fds[0]!);
    using second = EventFd.fromFd(fds[1]!);
    first.write();
    expect([one.read(), two.read()]).toEqual([true, false]);
    second.write();
    expect([one.read(), two.read()]).toEqual([false, true]);
    a.close();
    b.close();
  });

  it('queues what the kernel does not take, with descriptors that the caller may close at once', async () => {
    const [a, b] = pair({ highWater: 4 << 20 });
    const size = 2 << 20;
    const bytes = Uint8Array.from({ length: size }, (_, index) => index % 251);
    const event = EventFd.create();
    a.send(bytes);
    expect(a.queuedSize).toBeGreaterThan(0);
    a.send(new Uint8Array([9]), [event.fd]);
    bytes.fill(0);
    event.write();
    event.close();
    const drained = new Promise<void>((resolve) => a.onDrain(resolve));
    const received = await receive(b, size + 1);
    await drained;
    expect(a.queuedSize).toBe(0);
    expect(received.bytes.subarray(0, size).every((byte, index) => byte === index % 251)).toBe(true);
    expect(received.bytes[size]).toBe(9);
    using passed = EventFd.fromFd(received.fds[0]!);
    expect(passed.read()).toBe(true);
    a.close();
    b.close();
  });

  it('ENOBUFS when more than highWater would wait, and nothing of that message is sent', async () => {
    const [a, b] = pair({ highWater: 1 << 20 });
    a.send(new Uint8Array(1 << 20));
    const waiting = a.queuedSize;
    expect(() => a.send(new Uint8Array(1 << 20))).toThrow(expect.objectContaining({ code: 'ENOBUFS' }));
    expect(a.queuedSize).toBe(waiting);
    await receive(b, 1 << 20);
    a.close();
    b.close();
  });

  it('closing drops the queue and its descriptors', () => {
    const [a, b] = pair();
    using event = EventFd.create();
    a.send(new Uint8Array(600_000));
    a.send(new Uint8Array([1]), [event.fd]);
    a.close();
    b.close();
    expect(() => a.send(new Uint8Array(1))).toThrow(expect.objectContaining({ code: 'EPIPE' }));
  });

  it('says once who ended the stream, never from within a call of the owner', async () => {
    const [a, b] = pair();
    const reasons: string[] = [];
    const both = Promise.all([closed(a), closed(b)]);
    b.onData(() => {});
    a.close();
    reasons.push('close returned');
    a.close();
    const [ours, theirs] = await both;
    expect([ours.by, theirs.by]).toEqual(['local', 'peer']);
    expect(a.closed && b.closed).toBe(true);
  });

  it('a peer that closed with unread data in its socket is an end, not an exception', async () => {
    const [a, b] = pair();
    a.send(new Uint8Array(1000));
    a.onData(() => {});
    const reason = closed(a);
    b.close();
    expect((await reason).by).toBe('peer');
  });

  it('MSG_CTRUNC: a message with more descriptors than fdsMax closes the stream and leaks nothing', async () => {
    for (const fdsMax of [0, 1]) {
      const [x, y] = socketPair();
      const sender = UnixStream.fromFd(x);
      const receiver = UnixStream.fromFd(y, { fdsMax });
      using event = EventFd.create();
      receiver.onData(() => expect.unreachable('data of a truncated message was delivered'));
      sender.send(new Uint8Array([1]), [event.fd, event.fd, event.fd]);
      const reason = await closed(receiver);
      expect(reason).toMatchObject({ by: 'error', error: { code: 'EMSGSIZE' } });
      sender.close();
    }
  });

  it('passes descriptors from another process', async () => {
    const peer = startProgram(new URL('./testing/peer-program.ts', import.meta.url));
    peer.channel.send({ op: 'make', size: 4096, count: 3 });
    const line = await peer.channel.next();
    expect(line?.fds).toHaveLength(3);
    for (const fd of line!.fds) {
      using mapping = mapShared(fd, 4096);
      closeFd(fd);
      expect(new Uint8Array(mapping.buffer)[0]).toBe(0);
    }
    expect(await peer.stop()).toBe(0);
  });

  it('sees a killed peer end', async () => {
    const peer = startProgram(new URL('./testing/peer-program.ts', import.meta.url));
    peer.channel.send({ op: 'make', size: 4096, count: 0 });
    await peer.channel.next();
    peer.process.kill('SIGKILL');
    expect(await peer.channel.next()).toBeUndefined();
    expect(await peer.stop()).toBeNull();
  });
});

describeWithFfi('a socket that another process has, too', () => {
  it('sends and receives do not wait, although that one made it blocking', () => {
    const program = `
      import { UnixStream, dupFd, socketPair } from '@virtlab/linux';
      import { makeBlocking } from './testing/odd-descriptors.ts';
      const [fd, peerFd] = socketPair();
      const stream = UnixStream.fromFd(dupFd(fd), { highWater: 2 ** 24 });
      makeBlocking(fd);
      const size = 2 ** 22;
      stream.send(new Uint8Array(size));
      const isQueued = stream.queuedSize > 0;
      const peer = UnixStream.fromFd(peerFd);
      let received = 0;
      peer.onData((bytes) => {
        received += bytes.length;
        if (received === size) peer.send(Uint8Array.of(7));
      });
      stream.onData(([byte]) => {
        console.log(isQueued, byte);
        setImmediate(() => {
          stream.close();
          peer.close();
        });
      });
    `;
    expect(runProgram(program)).toBe('true 7');
  });

  it('tells that the peer has gone also where nobody reads, and with bytes still to be read', () => {
    const [left, right] = pair();
    expect(left.isPeerGone).toBe(false);
    right.send(Uint8Array.of(1));
    expect(left.isPeerGone).toBe(false);
    right.close();
    expect(left.isPeerGone).toBe(true);
    left.close();
    expect(left.isPeerGone).toBe(true);
  });
});

describeWithFfi('UnixStreamServer', () => {
  let folder = '';
  beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), 'virtlab-'))));
  afterEach(() => rmSync(folder, { recursive: true }));

  it('serves connections at a path of mode 0600 and removes it at the end', async () => {
    const path = join(folder, 'socket');
    const { promise: accepted, resolve } = Promise.withResolvers<UnixStream>();
    const server = UnixStreamServer.listen(path, resolve);
    expect(lstatSync(path).mode & 0o777).toBe(0o600);
    const client = UnixStream.connect(path);
    const stream = await accepted;
    expect(stream.peerCredentials()).toEqual({
      pid: process.pid,
      uid: process.getuid!(),
      gid: process.getgid!(),
    });
    client.send(new Uint8Array([42]));
    expect([...(await receive(stream, 1)).bytes]).toEqual([42]);
    server.close();
    server.close();
    expect(existsSync(path)).toBe(false);
    client.close();
    stream.close();
  });

  it('takes a wider mode whatever the umask, and a listening socket that somebody else bound', async () => {
    const path = join(folder, 'open');
    const umask = process.umask(0o077);
    const server = UnixStreamServer.listen(path, () => {}, { mode: 0o666 });
    process.umask(umask);
    expect(lstatSync(path).mode & 0o777).toBe(0o666);
    server.close();
    const fd = unixSocket();
    const { libc } = ffi('bind');
    const address = unixAddress(path);
    expect([libc.bind(fd, address, address.length), libc.listen(fd, 1)]).toEqual([0, 0]);
    const { promise: accepted, resolve } = Promise.withResolvers<UnixStream>();
    const taken = UnixStreamServer.fromFd(fd, resolve);
    const client = UnixStream.connect(path);
    (await accepted).close();
    expect(taken.path).toBeUndefined();
    taken.close();
    expect(existsSync(path)).toBe(true);
    client.close();
  });

  it('replaces the socket of a dead server, and never one that is alive', () => {
    const path = join(folder, 'socket');
    const first = UnixStreamServer.listen(path, () => {});
    expect(() => UnixStreamServer.listen(path, () => {})).toThrow(
      expect.objectContaining({ code: 'EADDRINUSE' }),
    );
    // A server that dies leaves its path: give the path a second name before the close removes the first.
    const dead = join(folder, 'dead');
    linkSync(path, dead);
    first.close();
    expect(() => UnixStream.connect(dead)).toThrow(expect.objectContaining({ code: 'ECONNREFUSED' }));
    const second = UnixStreamServer.listen(dead, (stream) => stream.close());
    UnixStream.connect(dead).close();
    second.close();
  });

  it('does not replace a file that is no socket', () => {
    const path = join(folder, 'file');
    writeFileSync(path, 'precious');
    expect(() => UnixStreamServer.listen(path, () => {})).toThrow(
      expect.objectContaining({ code: 'EADDRINUSE' }),
    );
    expect(existsSync(path)).toBe(true);
  });

  it('leaves the path alone when another server has taken it over', () => {
    const path = join(folder, 'socket');
    const first = UnixStreamServer.listen(path, () => {});
    rmSync(path);
    const second = UnixStreamServer.listen(path, (stream) => stream.close());
    first.close();
    expect(existsSync(path)).toBe(true);
    second.close();
  });

  it('errors carry the errno name and the call', () => {
    expect(() => UnixStream.connect(join(folder, 'none'))).toThrow(
      expect.objectContaining({ name: 'LinuxError', code: 'ENOENT', syscall: 'connect' }),
    );
    expect(() => UnixStream.connect(`/${'x'.repeat(200)}`)).toThrow(
      expect.objectContaining({ code: 'ENAMETOOLONG' }),
    );
  });
});
