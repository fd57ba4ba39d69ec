/**
 * The two ends of a vhost-user channel: one side sends requests, the other receives and answers them. The main channel
 * has the VhostUserFrontend as its sender, the back channel the VhostUserBackend.
 */
import { closeFd } from '@virtlab/linux';
import { type ProtocolFault, protocolFault } from './fault.ts';
import type { DecodeContext } from './payload-codec.ts';

/** What a channel runs on: `UnixStream`, or anything that carries bytes and descriptors in order. */
export interface MessageStream {
  /** Bytes and descriptors stay the caller's. Throws when the peer is gone or does not read. */
  send(bytes: Uint8Array, fds?: readonly number[]): void;
  /** `bytes` and `fds` are the handler's own. */
  onData(handler: (bytes: Uint8Array, fds: number[]) => void): void;
  /** Told once, never from within a call of the owner; not only after `close`. */
  onClose(handler: (reason: StreamEnd) => void): void;
  close(): void;
}

export interface StreamEnd {
  readonly by: 'peer' | 'local' | 'error';
  readonly error?: Error;
}

/** What both ends need to know to read a message. */
export interface ChannelState {
  /** As things stand: negotiation changes it. */
  decodeContext(): DecodeContext;
}

/** Descriptors of one message. What nobody took is closed when the message is done with. */
export class MessageFds implements Disposable {
  #fds: number[];

  constructor(fds: readonly number[]) {
    this.#fds = [...fds];
  }

  get count(): number {
    return this.#fds.length;
  }

  /** The next one, which is then the caller's; undefined when there is none left. */
  take(): number | undefined {
    return this.#fds.shift();
  }

  [Symbol.dispose](): void {
    for (const fd of this.#fds) closeFd(fd);
    this.#fds = [];
  }
}

/** Sends; what the stream has against it comes back as a fault. */
export function sendOn(
  stream: MessageStream,
  bytes: Uint8Array,
  fds: readonly number[] = [],
): ProtocolFault | undefined {
  try {
    stream.send(bytes, fds);
    return undefined;
  } catch (error) {
    const code = (error as { code?: unknown }).code;
    if (typeof code !== 'string') throw error;
    return protocolFault(code === 'ENOBUFS' ? 'SLOW' : 'CLOSED', (error as Error).message);
  }
}

/** Why a stream's end is a fault, or undefined for a peer that closed between two messages. */
export function faultOfEnd(end: StreamEnd, isMidMessage: boolean): ProtocolFault | undefined {
  if (end.by === 'error') return protocolFault('CLOSED', end.error?.message ?? 'the connection broke');
  if (end.by === 'peer' && isMidMessage)
    return protocolFault('CLOSED', 'the peer closed in the middle of a message');
  return undefined;
}
