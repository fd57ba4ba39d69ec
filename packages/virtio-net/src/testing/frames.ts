/** Addresses and frames for tests. */

export const BROADCAST: Uint8Array = new Uint8Array(6).fill(0xff);

export function mac(last: number): Uint8Array {
  return Uint8Array.of(0x02, 0, 0, 0, last >> 8, last & 0xff);
}

/** Bytes that differ from place to place and from frame to frame. */
export function makeFrame(to: Uint8Array, from: Uint8Array, size: number, mark: number = 0): Uint8Array {
  const frame = Uint8Array.from({ length: size }, (_, at) => (at * 7 + mark * 13 + (at >> 8)) & 0xff);
  frame.set(to);
  frame.set(from, 6);
  frame.set([0x88, 0xb5], 12);
  return frame;
}

export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
