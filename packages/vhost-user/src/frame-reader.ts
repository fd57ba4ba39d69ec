/**
 * Bytes and descriptors of a stream, cut into messages ("Header", "Communication").
 *
 * Descriptors ride on the first byte of their message, but a chunk of the stream may hold several messages, and which
 * of them brought the descriptors is not told. The one that by its type needs some takes them, else the last one that
 * begins in the chunk: the kernel ends a chunk behind the data that came with descriptors.
 */
import {
  VHOST_USER_HEADER,
  VHOST_USER_NEED_REPLY_MASK,
  VHOST_USER_REPLY_MASK,
  VHOST_USER_SHMEM_CONFIG,
  VHOST_USER_VERSION,
  VHOST_USER_VERSION_MASK,
} from '@virtlab/abi/vhost-user';
import { closeFd } from '@virtlab/linux';
import { type ProtocolFault, hex, protocolFault } from './fault.ts';
import { viewOf } from './payload-codec.ts';

/** Bytes of a payload at most: more than any message has. */
export const PAYLOAD_SIZE_MAX = 4096;

const KNOWN_FLAGS = VHOST_USER_VERSION_MASK | VHOST_USER_REPLY_MASK | VHOST_USER_NEED_REPLY_MASK;
/** Chunks with descriptors that may wait for the rest of a message; a second one is a fault already. */
const FD_SETS_MAX = 2;

if (VHOST_USER_SHMEM_CONFIG.size > PAYLOAD_SIZE_MAX) throw new Error('a message is larger than the limit');

/** One message as it came. `payload` and `fds` are the receiver's; it closes the descriptors. */
export interface Frame {
  readonly request: number;
  readonly isReply: boolean;
  readonly needsReply: boolean;
  readonly payload: Uint8Array;
  readonly fds: number[];
}

export interface FrameEvents {
  /** Whether a message needs descriptors by what it says. */
  needsFds(request: number, payload: Uint8Array): boolean;
  /** May call `dispose`. */
  onFrame(frame: Frame): void;
}

interface FdSet {
  /** Stream positions of the chunk that brought them. */
  readonly start: number;
  readonly end: number;
  readonly fds: number[];
}

interface Header {
  readonly request: number;
  readonly flags: number;
  readonly size: number;
}

export class FrameReader implements Disposable {
  readonly #events: FrameEvents;
  #sets: FdSet[] = [];
  /** Bytes of messages that are not complete. */
  #pending: Uint8Array = new Uint8Array(0);
  /** Stream position of the first of them. */
  #position = 0;
  #isDisposed = false;

  constructor(events: FrameEvents) {
    this.#events = events;
  }

  /** A message has begun and is not complete. */
  get isMidMessage(): boolean {
    return this.#pending.length > 0;
  }

  /** Takes a chunk and its descriptors; a fault ends the stream, and nothing is delivered any more. */
  push(bytes: Uint8Array, fds: number[]): ProtocolFault | undefined {
    if (this.#isDisposed) {
      fds.forEach(closeFd);
      return undefined;
    }
    const start = this.#position + this.#pending.length;
    if (fds.length > 0) this.#sets.push({ start, end: start + bytes.length, fds });
    this.#pending = this.#pending.length === 0 ? bytes : joined(this.#pending, bytes);
    const fault = this.#deliver();
    if (fault !== undefined) this[Symbol.dispose]();
    return fault;
  }

  /** Closes descriptors that no message took, and delivers nothing any more. */
  [Symbol.dispose](): void {
    this.#isDisposed = true;
    for (const { fds } of this.#sets) fds.forEach(closeFd);
    this.#sets = [];
    this.#pending = new Uint8Array(0);
  }

  #deliver(): ProtocolFault | undefined {
    while (!this.#isDisposed && this.#pending.length >= VHOST_USER_HEADER.size) {
      const header = VHOST_USER_HEADER.read(viewOf(this.#pending), 0);
      const fault = faultOfHeader(header);
      if (fault !== undefined) return fault;
      const frameSize = VHOST_USER_HEADER.size + header.size;
      if (this.#pending.length < frameSize) break;
      const payload = this.#pending.slice(VHOST_USER_HEADER.size, frameSize);
      const fds = this.#takeFds(header, payload, this.#position + frameSize);
      this.#pending = this.#pending.subarray(frameSize);
      this.#position += frameSize;
      if (this.#sets.some(({ end }) => end <= this.#position)) {
        fds.forEach(closeFd);
        return protocolFault('BAD_FDS', `descriptors came in the middle of message ${header.request}`);
      }
      this.#events.onFrame({
        request: header.request,
        isReply: (header.flags & VHOST_USER_REPLY_MASK) !== 0,
        needsReply: (header.flags & VHOST_USER_NEED_REPLY_MASK) !== 0,
        payload,
        fds,
      });
    }
    if (this.#sets.length > FD_SETS_MAX)
      return protocolFault('BAD_FDS', 'descriptors came in the middle of a message');
    return undefined;
  }

  #takeFds({ request }: Header, payload: Uint8Array, frameEnd: number): number[] {
    const index = this.#sets.findIndex(({ start, end }) => start <= this.#position && this.#position < end);
    const set = this.#sets[index];
    if (set === undefined) return [];
    if (frameEnd < set.end && !this.#events.needsFds(request, payload)) return [];
    this.#sets.splice(index, 1);
    return set.fds;
  }
}

function faultOfHeader({ request, flags, size }: Header): ProtocolFault | undefined {
  const version = flags & VHOST_USER_VERSION_MASK;
  if (version !== VHOST_USER_VERSION) {
    return protocolFault(
      'BAD_VERSION',
      `version ${version} in message ${request}, not ${VHOST_USER_VERSION}`,
    );
  }
  if ((flags & ~KNOWN_FLAGS) !== 0) {
    return protocolFault('BAD_FLAGS', `flags ${hex(flags >>> 0)} in message ${request}`);
  }
  if (size > PAYLOAD_SIZE_MAX) {
    return protocolFault('OVERSIZED', `message ${request} of ${size} bytes, at most ${PAYLOAD_SIZE_MAX}`);
  }
  return undefined;
}

/** The bytes of one message. */
export function encodeFrame(
  request: number,
  payload: Uint8Array,
  { isReply = false, needsReply = false }: { readonly isReply?: boolean; readonly needsReply?: boolean } = {},
): Uint8Array {
  const bytes = new Uint8Array(VHOST_USER_HEADER.size + payload.length);
  const flags =
    VHOST_USER_VERSION |
    (isReply ? VHOST_USER_REPLY_MASK : 0) |
    (needsReply ? VHOST_USER_NEED_REPLY_MASK : 0);
  VHOST_USER_HEADER.write(viewOf(bytes), 0, { request, flags, size: payload.length });
  bytes.set(payload, VHOST_USER_HEADER.size);
  return bytes;
}

function joined(left: Uint8Array, right: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(left.length + right.length);
  bytes.set(left);
  bytes.set(right, left.length);
  return bytes;
}
