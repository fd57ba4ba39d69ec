import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { type Server, type Socket, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { SocketStream } from './socket-stream.ts';

let directory: string;
let listener: Server;
let ours: Socket;
let peer: Socket;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'virtlab-stream-'));
  listener = createServer();
  listener.listen(join(directory, 'socket'));
  await once(listener, 'listening');
  peer = connect(join(directory, 'socket'));
  [ours] = (await once(listener, 'connection')) as [Socket];
});

afterEach(() => {
  for (const socket of [ours, peer]) socket.destroy();
  listener.close();
  rmSync(directory, { recursive: true });
});

/** Bytes that tell where they stand in the whole. */
function numbered(size: number, from: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, i) => (from + i) % 251);
}

/** Reads on until there are `size` bytes, which must be `numbered` from 0, and says how many there were. */
async function readNumbered(size: number): Promise<number> {
  let count = 0;
  for await (const chunk of peer) {
    const bytes = chunk as Buffer;
    expect(bytes.equals(numbered(bytes.length, count))).toBe(true);
    count += bytes.length;
    if (count >= size) break;
  }
  return count;
}

describe('SocketStream', () => {
  it('what is sent from within onData leaves in one write, before the event loop goes on', async () => {
    const stream = new SocketStream(ours);
    const write = vi.spyOn(ours, 'write');
    let writeCount = -1;
    stream.attach({
      onData: () => {
        for (let i = 0; i < 50; i += 1) expect(stream.send(numbered(20, i * 20))).toBe(20);
        expect(write).not.toHaveBeenCalled();
        process.nextTick(() => {
          writeCount = write.mock.calls.length;
        });
      },
      onDrain: () => undefined,
      onClose: () => undefined,
    });
    peer.write('x');
    expect(await readNumbered(1000)).toBe(1000);
    expect(writeCount).toBe(1);
  });

  it('what is sent in one turn outside leaves in one write', async () => {
    const stream = new SocketStream(ours);
    stream.attach({ onData: () => undefined, onDrain: () => undefined, onClose: () => undefined });
    const write = vi.spyOn(ours, 'write');
    for (let i = 0; i < 50; i += 1) stream.send(numbered(20, i * 20));
    expect(await readNumbered(1000)).toBe(1000);
    expect(write).toHaveBeenCalledTimes(1);
  });

  it('bytes of any size arrive unchanged and in order at a peer that is slow, although memory is used again', async () => {
    const stream = new SocketStream(ours);
    const drained: (() => void)[] = [];
    stream.attach({
      onData: () => undefined,
      onDrain: () => drained.shift()?.(),
      onClose: () => undefined,
    });
    const sizes = [1, 16, 4112, 16_384, 40_000, 7];
    const total = 3_000_000;
    const reading = new Promise<void>((resolve) => setImmediate(resolve)).then(() => readNumbered(total));
    let sent = 0;
    for (let i = 0; sent < total; i += 1) {
      let rest = numbered(Math.min(sizes[i % sizes.length]!, total - sent), sent);
      while (rest.length > 0) {
        const taken = stream.send(rest);
        sent += taken;
        rest = rest.subarray(taken);
        if (rest.length > 0) await new Promise<void>((resolve) => drained.push(resolve));
      }
    }
    expect(await reading).toBe(total);
  });

  it('an orderly close delivers what was taken, and the end of the peer is the end of the stream', async () => {
    const stream = new SocketStream(ours);
    const closed = Promise.withResolvers<string | undefined>();
    stream.attach({ onData: () => undefined, onDrain: () => undefined, onClose: closed.resolve });
    stream.send(numbered(100, 0));
    stream.close();
    expect(await readNumbered(100)).toBe(100);
    expect(await closed.promise).toBe(undefined);
    expect(stream.send(numbered(1, 0))).toBe(1);
  });
});
