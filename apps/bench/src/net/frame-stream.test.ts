import { describe, expect, it } from 'vitest';
import { FrameDecoder, encodeFrames } from './frame-stream.ts';
import { CARD_MAC, FRAME_END, FloodFrame, FloodReceiver, STATION_MAC, readNumber } from './frames.ts';

function flood(count: number): Uint8Array[] {
  return Array.from({ length: count }, (_, number) =>
    new FloodFrame(number % 2 === 0 ? 64 : 1500, CARD_MAC, STATION_MAC).set(number),
  );
}

describe('frames on a stream', () => {
  it.each([1, 3, 4, 5, 63, 100, 4096, 1 << 20])(
    'come out whole and in order when delivered in pieces of %i bytes',
    (pieceSize) => {
      const frames = flood(60);
      const bytes = encodeFrames(frames);
      const found: Uint8Array[] = [];
      const decoder = new FrameDecoder((frame) => found.push(frame.slice()));
      for (let at = 0; at < bytes.length; at += pieceSize) decoder.decode(bytes.subarray(at, at + pieceSize));
      expect(found).toEqual(frames);
    },
  );
});

describe('FloodReceiver', () => {
  const end = (count: number): Uint8Array =>
    new FloodFrame(60, CARD_MAC, STATION_MAC).set(count, FRAME_END).slice();

  it('answers the last frame with how many came', () => {
    const answers: number[] = [];
    const receiver = new FloodReceiver((received) => answers.push(received));
    for (const frame of [...flood(5), end(5), ...flood(2), end(2)]) receiver.receive(frame);
    expect(answers).toEqual([5, 2]);
  });

  it.each([
    ['lost', [0, 2]],
    ['doubled', [0, 0, 1]],
    ['out of order', [1, 0, 2]],
  ])('a frame %s is found', (_what, order) => {
    const answers: number[] = [];
    const receiver = new FloodReceiver((received) => answers.push(received));
    const frames = flood(3);
    for (const number of order) receiver.receive(frames[number]!);
    receiver.receive(end(3));
    expect(answers).toEqual([-1]);
  });

  it('numbers are 32 bits without sign', () => {
    expect(readNumber(new FloodFrame(60, CARD_MAC, STATION_MAC).set(0xfedc_ba98))).toBe(0xfedc_ba98);
  });
});
