import { describe, expect, it } from 'vitest';
import { MESSAGE_SIZE, MessageReader, MessageWriter } from './messages.ts';

describe('numbered messages', () => {
  it.each([1, 2, 3, 4, 5, 7, 64])('are found in a stream cut into pieces of %i bytes', (pieceSize) => {
    const bytes = new MessageWriter().write(100);
    const reader = new MessageReader();
    let count = 0;
    for (let at = 0; at < bytes.length; at += pieceSize)
      count += reader.read(bytes.subarray(at, at + pieceSize));
    expect([count, bytes.length]).toEqual([100, 100 * MESSAGE_SIZE]);
  });

  it('one that was lost, doubled or changed is found', () => {
    const bytes = new MessageWriter().write(3);
    const lost = bytes.slice(MESSAGE_SIZE);
    expect(() => new MessageReader().read(lost)).toThrow('Message 1 came instead of 0');
    const doubled = new MessageReader();
    doubled.read(bytes);
    expect(() => doubled.read(bytes)).toThrow('Message 0 came instead of 3');
  });
});
