import { once } from 'node:events';
import type { Socket } from 'node:net';
import { type Contender, type RunResult, elapsedNs } from '../contender.ts';
import { connectChild } from '../peers/socket-peer.ts';
import { FrameDecoder, encodeFrames } from './frame-stream.ts';
import {
  BATCH_COUNT,
  CARD_MAC,
  FRAME_END,
  FRAME_SIZE_MIN,
  FloodFrame,
  STATION_MAC,
  readNumber,
} from './frames.ts';

/** Frames with lengths over a Unix socket to another process. */
export interface StreamPeer extends AsyncDisposable {
  /** Frames of `size` bytes, a write for a batch. */
  contender(size: number): Contender;
}

export async function startStreamPeer(folder: string): Promise<StreamPeer> {
  const { socket, child } = await connectChild(folder, 'net/frame-sink-process');
  return {
    contender: (size) => ({
      name: 'Unix socket',
      isPeer: true,
      pids: [child.pid],
      run: (count) => flood(socket, size, count),
    }),
    [Symbol.asyncDispose]: async () => {
      socket.destroy();
      await child[Symbol.asyncDispose]();
    },
  };
}

async function flood(socket: Socket, size: number, count: number): Promise<RunResult> {
  const answered = Promise.withResolvers<number>();
  const decoder = new FrameDecoder((frame) => answered.resolve(readNumber(frame)));
  const onData = (bytes: Uint8Array): void => decoder.decode(bytes);
  const onClose = (): void => answered.reject(new Error('The peer closed its socket'));
  socket.on('data', onData);
  socket.on('close', onClose);
  try {
    const start = performance.now();
    const batch = Array.from({ length: BATCH_COUNT }, () => new FloodFrame(size, CARD_MAC, STATION_MAC));
    for (let sent = 0; sent < count;) {
      const frames: Uint8Array[] = [];
      for (const frame of batch.slice(0, count - sent)) {
        frames.push(frame.set(sent));
        sent += 1;
      }
      if (!socket.write(encodeFrames(frames))) await once(socket, 'drain');
    }
    const end = new FloodFrame(FRAME_SIZE_MIN, CARD_MAC, STATION_MAC);
    socket.write(encodeFrames([end.set(count, FRAME_END)]));
    const received = await answered.promise;
    if (received !== count) throw new Error(`${count} frames were sent, and not all came in order`);
    return { operationCount: count, elapsedNs: elapsedNs(start) };
  } finally {
    socket.off('data', onData);
    socket.off('close', onClose);
  }
}
