/** Frames sent into a network, and what comes out of it. */
import { text } from './frames.ts';

/** A network card's driver, or a station on a switch. */
export interface FramePort {
  send(frame: Uint8Array): boolean;
  kick(): void;
  onFrame(handler: ((frame: Uint8Array) => void) | undefined): void;
  onWritable(handler: (() => void) | undefined): void;
}

/** So many that none finds a ring full on its way: there it would be lost. */
const ON_THEIR_WAY_MAX = 128;
const TIMEOUT_MS = 20_000;

/** All that arrives at a port, in order. */
export class Inbox {
  readonly #texts: string[] = [];
  #wake: (() => void) | undefined;
  #size = 0;
  #count = 0;

  /** `isKept`: frames are there to be taken, not only counted. */
  constructor(port: Pick<FramePort, 'onFrame'>, isKept: (frame: Uint8Array) => boolean = () => true) {
    port.onFrame((frame) => {
      this.#count += 1;
      this.#size += frame.length;
      if (isKept(frame)) this.#texts.push(text(frame));
      this.#wake?.();
    });
  }

  /** Frames, and bytes of them, since the beginning. */
  get count(): number {
    return this.#count;
  }
  get size(): number {
    return this.#size;
  }

  async take(count: number): Promise<string[]> {
    await this.#until(() => this.#texts.length >= count, `${count} frames`);
    return this.#texts.splice(0, count);
  }

  async counted(count: number): Promise<void> {
    await this.#until(() => this.#count >= count, `${count} frames counted`);
  }

  async #until(isThere: () => boolean, what: string): Promise<void> {
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      this.#wake?.();
    }, TIMEOUT_MS);
    while (!isThere()) {
      if (isLate) throw new Error(`Not ${what} but ${this.#texts.length} of ${this.#count}`);
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      await promise;
    }
    clearTimeout(timer);
  }
}

export async function sendAll(port: FramePort, frames: readonly Uint8Array[]): Promise<void> {
  for (const frame of frames) {
    while (!port.send(frame)) {
      const { promise, resolve } = Promise.withResolvers<void>();
      port.onWritable(resolve);
      await promise;
    }
  }
  port.kick();
}

/** Sends frames and takes what arrives for them; texts of what should have and what has. */
export async function exchange(
  port: FramePort,
  inbox: Inbox,
  frames: readonly Uint8Array[],
  expected: (frame: Uint8Array) => Uint8Array,
): Promise<{ readonly wanted: string[]; readonly found: string[] }> {
  const found: string[] = [];
  for (let at = 0; at < frames.length; at += ON_THEIR_WAY_MAX) {
    const batch = frames.slice(at, at + ON_THEIR_WAY_MAX);
    await sendAll(port, batch);
    found.push(...(await inbox.take(batch.length)));
  }
  return { wanted: frames.map((frame) => text(expected(frame))), found };
}
