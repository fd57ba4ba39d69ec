import type { FrameStream } from '../frame-stream.ts';
import { settle } from './shared-machine.ts';
import type { NetDriver } from '@virtlab/virtio-net';

/** What no standard uses (IEEE Std 802 local experimental EtherType 1). */
const TYPE_EXPERIMENT = 0x88b5;
const HEADER_SIZE = 14;

export const BROADCAST: Uint8Array = new Uint8Array(6).fill(0xff);

/** A locally administered address. */
export function mac(last: number): Uint8Array {
  return Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, last);
}

export function macText(address: Uint8Array): string {
  return [...address].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
}

/** A frame of `size` bytes in all that tells its number; with a VLAN tag if `vlan` is given. */
export function frame(
  to: Uint8Array,
  from: Uint8Array,
  size: number,
  fill: number,
  vlan?: number,
): Uint8Array {
  const bytes = new Uint8Array(size).map((_, at) => (fill + at) & 0xff);
  const tag = vlan === undefined ? [] : [0x81, 0x00, vlan >> 8, vlan & 0xff];
  const header = [...to, ...from, ...tag, TYPE_EXPERIMENT >> 8, TYPE_EXPERIMENT & 0xff];
  bytes.set(header.slice(0, Math.max(HEADER_SIZE, header.length)), 0);
  return bytes;
}

/** Frames of the experiment that have arrived, as text; whatever else comes is left out. */
export class Inbox {
  readonly frames: string[] = [];

  constructor(source: NetDriver | FrameStream) {
    source.onFrame((bytes: Uint8Array) => {
      const shown = text(bytes);
      if (/^.{24}(8100....)?88b5/.test(shown)) this.frames.push(shown);
    });
  }

  /** Waits until there are so many. */
  async take(count: number): Promise<string[]> {
    while (this.frames.length < count) await settle();
    return this.frames.splice(0);
  }
}

export function text(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

/** Sends them all, waiting for room where there is none. */
export async function sendAll(driver: NetDriver, frames: readonly Uint8Array[]): Promise<void> {
  for (const bytes of frames) {
    while (!driver.send(bytes)) await settle();
  }
  driver.kick();
}
