/** The asking end of a channel: requests out, replies matched to them in order. */
import type { AioContext, Timer } from '@virtlab/aio';
import { MessageFds, type ChannelState, type MessageStream, faultOfEnd, sendOn } from './connection.ts';
import { type Outcome, type ProtocolFault, bad, good, protocolFault } from './fault.ts';
import { type Frame, FrameReader, encodeFrame } from './frame-reader.ts';
import type { MessageShape, MessageTable } from './messages.ts';
import { U64 } from './payload-codec.ts';

/** Requests that may wait for their replies at once. */
const PENDING_COUNT_MAX = 1024;

/** A reply, or an acknowledgement of success (`value` undefined). `fds` are the caller's to take; the rest it disposes. */
export interface Reply<Value> {
  readonly value: Value;
  readonly fds: MessageFds;
}

export interface SenderOptions<Payloads, Replies> extends ChannelState {
  readonly stream: MessageStream;
  readonly table: MessageTable<Payloads, Replies>;
  /** For the time limit; none without it. */
  readonly aio?: AioContext;
  /** For a reply. A peer that takes longer has ended. Default: no limit. */
  readonly timeoutMs?: number;
  /** Told once: the channel is over and the stream is closed. Requests that waited have failed by then. */
  onEnd(fault: ProtocolFault | undefined): void;
}

interface Pending {
  readonly name: string;
  readonly shape: MessageShape<unknown, unknown>;
  resolve(outcome: Outcome<Reply<unknown>>): void;
}

export class RequestSender<Payloads, Replies> {
  readonly #options: SenderOptions<Payloads, Replies>;
  readonly #reader: FrameReader;
  readonly #pending: Pending[] = [];
  readonly #timer: Timer | undefined;
  #isEnded = false;

  /** Starts receiving replies at once. Owns the stream. */
  constructor(options: SenderOptions<Payloads, Replies>) {
    this.#options = options;
    const { aio, timeoutMs, stream } = options;
    if (aio !== undefined && timeoutMs !== undefined) this.#timer = aio.createTimer(() => this.#tooLate());
    this.#reader = new FrameReader({
      needsFds: (request) => {
        const due = this.#pending[0];
        return due !== undefined && due.shape.id === request && due.shape.replyFds.min > 0;
      },
      onFrame: (frame) => this.#accept(frame),
    });
    stream.onClose((end) => this.#end(faultOfEnd(end, this.#reader.isMidMessage)));
    stream.onData((bytes, fds) => {
      const fault = this.#reader.push(bytes, fds);
      if (fault !== undefined) this.#end(fault);
    });
  }

  get isEnded(): boolean {
    return this.#isEnded;
  }
  /** Requests whose reply has not come. */
  get pendingCount(): number {
    return this.#pending.length;
  }

  /** Sends a request that has no reply of its own and asks for none. Descriptors stay the caller's. */
  post<Name extends keyof Payloads & keyof Replies & string>(
    name: Name,
    payload: Payloads[Name],
    fds: readonly number[] = [],
  ): ProtocolFault | undefined {
    return this.#send(name, this.#options.table[name], payload, fds, false);
  }

  /**
   * Sends a request and waits for its reply or, where it has none, for the acknowledgement, which needs REPLY_ACK.
   * A refusal is a fault `REFUSED`; the end of the channel is one too. Never rejects.
   */
  async request<Name extends keyof Payloads & keyof Replies & string>(
    name: Name,
    payload: Payloads[Name],
    fds: readonly number[] = [],
  ): Promise<Outcome<Reply<Replies[Name]>>> {
    const shape: MessageShape<Payloads[Name], Replies[Name]> = this.#options.table[name];
    if (this.#pending.length === PENDING_COUNT_MAX) return bad('SLOW', `${name}: too many requests wait`);
    const fault = this.#send(name, shape, payload, fds, shape.reply === undefined);
    if (fault !== undefined) return { ok: false, fault };
    const { promise, resolve } = Promise.withResolvers<Outcome<Reply<unknown>>>();
    this.#pending.push({ name, shape, resolve });
    if (this.#pending.length === 1) this.#timer?.arm(this.#options.timeoutMs!);
    return (await promise) as Outcome<Reply<Replies[Name]>>;
  }

  /** Ends the channel from this side. */
  close(fault?: ProtocolFault): void {
    this.#end(fault);
  }

  #send<Payload>(
    name: string,
    shape: MessageShape<Payload, unknown>,
    payload: Payload,
    fds: readonly number[],
    needsReply: boolean,
  ): ProtocolFault | undefined {
    if (this.#isEnded) return protocolFault('CLOSED', `${name}: the channel is closed`);
    const bytes = shape.payload.encode(payload, this.#options.decodeContext());
    const fault = sendOn(this.#options.stream, encodeFrame(shape.id, bytes, { needsReply }), fds);
    if (fault !== undefined) this.#end(fault);
    return fault;
  }

  #accept(frame: Frame): void {
    using fds = new MessageFds(frame.fds);
    const due = this.#pending[0];
    if (due === undefined || !frame.isReply || frame.request !== due.shape.id) {
      const expected = due === undefined ? 'none is due' : `the reply to ${due.name} is due`;
      this.#end(protocolFault('BAD_FLAGS', `message ${frame.request} came where ${expected}`));
      return;
    }
    const { replyFds } = due.shape;
    if (fds.count < replyFds.min || fds.count > replyFds.max) {
      this.#end(protocolFault('BAD_FDS', `${due.name}: ${fds.count} descriptors in the reply`));
      return;
    }
    const value = this.#valueOf(due, frame.payload);
    if (!value.ok && value.fault.code !== 'REFUSED') {
      this.#end(value.fault);
      return;
    }
    this.#pending.shift();
    this.#rearm();
    due.resolve(value.ok ? good({ value: value.value, fds: given(fds) }) : value);
  }

  #valueOf({ name, shape }: Pending, payload: Uint8Array): Outcome<unknown> {
    const context = this.#options.decodeContext();
    const decoded = (shape.reply ?? U64).decode(payload, context);
    if (!decoded.ok) return bad(decoded.fault.code, `reply to ${name}: ${decoded.fault.message}`);
    if (shape.reply !== undefined) return good(decoded.value);
    return decoded.value === 0n
      ? good(undefined)
      : bad('REFUSED', `${name} was refused (${String(decoded.value)})`);
  }

  #rearm(): void {
    if (this.#pending.length > 0) this.#timer?.arm(this.#options.timeoutMs!);
    else this.#timer?.disarm();
  }

  #tooLate(): void {
    const name = this.#pending[0]?.name ?? '';
    this.#end(protocolFault('TIMEOUT', `${name}: no reply within ${this.#options.timeoutMs} ms`));
  }

  #end(fault: ProtocolFault | undefined): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#reader[Symbol.dispose]();
    this.#timer?.[Symbol.dispose]();
    this.#options.stream.close();
    const why = fault ?? protocolFault('CLOSED', 'the channel was closed');
    for (const pending of this.#pending.splice(0)) pending.resolve({ ok: false, fault: why });
    this.#options.onEnd(fault);
  }
}

/** Moves the descriptors on, so that the frame's own disposal closes none of them. */
function given(fds: MessageFds): MessageFds {
  const moved: number[] = [];
  for (let fd = fds.take(); fd !== undefined; fd = fds.take()) moved.push(fd);
  return new MessageFds(moved);
}
