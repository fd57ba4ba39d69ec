/** The answering end of a channel: requests in, one at a time and in order, answers out. */
import type { VhostUserProtocolFeature } from '@virtlab/abi/vhost-user';
import { closeFd } from '@virtlab/linux';
import { MessageFds, type ChannelState, type MessageStream, faultOfEnd, sendOn } from './connection.ts';
import { type ProtocolFault, protocolFault } from './fault.ts';
import { type Frame, FrameReader, encodeFrame } from './frame-reader.ts';
import type { MessageShape, MessageTable } from './messages.ts';
import { U64 } from './payload-codec.ts';

/** Messages that may wait behind one whose answer takes time; a peer that sends more is cut off. */
const WAITING_COUNT_MAX = 4096;
const ACKNOWLEDGED = 0n;
const NOT_ACKNOWLEDGED = 1n;

/**
 * What a handler says. `value` is the reply of requests that have one; `fds` go with it and are closed when it is sent.
 * A fault is told to a peer that asked for an acknowledgement; otherwise it ends the channel, as does a fault of a
 * request whose reply cannot say so.
 */
export type Answer<Reply> =
  | { readonly ok: true; readonly value: Reply; readonly fds?: readonly number[] }
  | { readonly ok: false; readonly fault: ProtocolFault };

const DONE: Answer<undefined> = { ok: true, value: undefined };

/** Done, or why not. */
export function answered(fault: ProtocolFault | undefined): Answer<undefined> {
  return fault === undefined ? DONE : { ok: false, fault };
}

/**
 * By name; a request without a handler is refused. `fds` are closed after the answer unless they were taken; `needsReply` says
 * whether the peer asked for an acknowledgement.
 */
export type Handlers<Payloads, Replies> = {
  readonly [Name in keyof Payloads & keyof Replies & string]?: (
    payload: Payloads[Name],
    fds: MessageFds,
    needsReply: boolean,
  ) => Answer<Replies[Name]> | Promise<Answer<Replies[Name]>>;
};

export interface ReceiverOptions<Payloads, Replies> extends ChannelState {
  readonly stream: MessageStream;
  readonly table: MessageTable<Payloads, Replies>;
  readonly handlers: Handlers<Payloads, Replies>;
  hasFeature(feature: VhostUserProtocolFeature): boolean;
  /** Before each request that is in order. For logs. */
  onRequest?(name: string): void;
  /** Before each acknowledgement that says a request was not done: why, which the acknowledgement cannot say. */
  onRefusal?(reason: string): void;
  /**
   * Told once: the channel is over, nothing more is handled, and the stream is closed. `fault` is what was wrong, if
   * anything was; `error` what a handler threw.
   */
  onEnd(fault: ProtocolFault | undefined, error?: unknown): void;
}

type AnyShape = MessageShape<unknown, unknown>;
type AnyHandler = (
  payload: unknown,
  fds: MessageFds,
  needsReply: boolean,
) => Answer<unknown> | Promise<Answer<unknown>>;

export class RequestReceiver<Payloads, Replies> {
  readonly #options: ReceiverOptions<Payloads, Replies>;
  readonly #byId: ReadonlyMap<number, readonly [string, AnyShape]>;
  readonly #reader: FrameReader;
  readonly #waiting: Frame[] = [];
  #isBusy = false;
  #isEnded = false;

  /** Starts receiving at once. Owns the stream. */
  constructor(options: ReceiverOptions<Payloads, Replies>) {
    this.#options = options;
    const shapes = Object.entries(options.table) as [string, AnyShape][];
    this.#byId = new Map(shapes.map(([name, shape]) => [shape.id, [name, shape]]));
    this.#reader = new FrameReader({
      needsFds: (request, payload) => this.#needsFds(request, payload),
      onFrame: (frame) => this.#accept(frame),
    });
    options.stream.onClose((end) => this.#end(faultOfEnd(end, this.#reader.isMidMessage)));
    options.stream.onData((bytes, fds) => {
      const fault = this.#reader.push(bytes, fds);
      if (fault !== undefined) this.#end(fault);
    });
  }

  get isEnded(): boolean {
    return this.#isEnded;
  }

  /** Ends the channel from this side. */
  close(fault?: ProtocolFault): void {
    this.#end(fault);
  }

  #needsFds(request: number, bytes: Uint8Array): boolean {
    const shape = this.#byId.get(request)?.[1];
    const payload = shape?.payload.decode(bytes, this.#options.decodeContext());
    return shape !== undefined && payload?.ok === true && shape.fds(payload.value).min > 0;
  }

  #accept(frame: Frame): void {
    if (this.#waiting.length === WAITING_COUNT_MAX) {
      frame.fds.forEach(closeFd);
      this.#end(protocolFault('SLOW', `more than ${WAITING_COUNT_MAX} requests before an answer`));
      return;
    }
    this.#waiting.push(frame);
    if (!this.#isBusy) this.#drain();
  }

  #drain(): void {
    for (;;) {
      const frame = this.#isEnded ? undefined : this.#waiting.shift();
      if (frame === undefined) return;
      const work = this.#handle(frame);
      if (work === undefined) continue;
      this.#isBusy = true;
      void work.finally(() => {
        this.#isBusy = false;
        this.#drain();
      });
      return;
    }
  }

  /** A promise while the answer takes time. */
  #handle(frame: Frame): Promise<void> | undefined {
    const fds = new MessageFds(frame.fds);
    const outcome = this.#begin(frame, fds);
    if (!(outcome instanceof Promise)) {
      fds[Symbol.dispose]();
      this.#answer(frame, outcome);
      return undefined;
    }
    return outcome.then(
      (answer) => {
        fds[Symbol.dispose]();
        this.#answer(frame, answer);
      },
      (error: unknown) => {
        fds[Symbol.dispose]();
        this.#crash(error);
      },
    );
  }

  #begin(frame: Frame, fds: MessageFds): Answer<unknown> | Promise<Answer<unknown>> | undefined {
    const known = this.#byId.get(frame.request);
    if (known === undefined || frame.isReply) {
      const what = frame.isReply ? 'a reply where a request was due' : 'no such request';
      const code = frame.isReply ? 'BAD_FLAGS' : 'UNKNOWN_REQUEST';
      return this.#fatal(protocolFault(code, `${what}: message ${frame.request}`));
    }
    const [name, shape] = known;
    const payload = shape.payload.decode(frame.payload, this.#options.decodeContext());
    if (!payload.ok) return this.#fatal(named(name, payload.fault));
    const { min, max } = shape.fds(payload.value);
    if (fds.count < min || fds.count > max) {
      const wanted = min === max ? `${min}` : `${min} to ${max}`;
      return this.#fatal(protocolFault('BAD_FDS', `${name}: ${fds.count} descriptors, not ${wanted}`));
    }
    if (shape.feature !== undefined && !this.#options.hasFeature(shape.feature)) {
      const message = `${name} without protocol feature ${shape.feature}`;
      return { ok: false, fault: protocolFault('BAD_STATE', message) };
    }
    const handlers = this.#options.handlers as Readonly<Record<string, AnyHandler | undefined>>;
    const handler = handlers[name];
    if (handler === undefined) {
      return { ok: false, fault: protocolFault('REFUSED', `${name} is not supported`) };
    }
    this.#options.onRequest?.(name);
    try {
      return handler(payload.value, fds, frame.needsReply);
    } catch (error) {
      this.#crash(error);
      return undefined;
    }
  }

  /** What cannot be right ends the channel: whatever follows could not be trusted. */
  #fatal(fault: ProtocolFault): undefined {
    this.#end(fault);
  }

  #answer(frame: Frame, answer: Answer<unknown> | undefined): void {
    if (answer === undefined) return;
    const [name, shape] = this.#byId.get(frame.request)!;
    const fds = answer.ok ? (answer.fds ?? []) : [];
    try {
      if (this.#isEnded) return;
      if (!answer.ok && (shape.reply !== undefined || !frame.needsReply)) {
        this.#end(named(name, answer.fault));
        return;
      }
      if (!answer.ok) this.#options.onRefusal?.(named(name, answer.fault).message);
      const payload = this.#payloadOf(shape, frame, answer);
      if (payload === undefined) return;
      const fault = sendOn(this.#options.stream, encodeFrame(frame.request, payload, { isReply: true }), fds);
      if (fault !== undefined) this.#end(fault);
    } catch (error) {
      this.#crash(error);
    } finally {
      fds.forEach(closeFd);
    }
  }

  #payloadOf(shape: AnyShape, frame: Frame, answer: Answer<unknown>): Uint8Array | undefined {
    const context = this.#options.decodeContext();
    if (shape.reply !== undefined && answer.ok) return shape.reply.encode(answer.value, context);
    if (!frame.needsReply) return undefined;
    return U64.encode(answer.ok ? ACKNOWLEDGED : NOT_ACKNOWLEDGED, context);
  }

  #crash(error: unknown): void {
    this.#end(protocolFault('REFUSED', 'internal error'), error);
  }

  #end(fault: ProtocolFault | undefined, error?: unknown): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#reader[Symbol.dispose]();
    for (const { fds } of this.#waiting) fds.forEach(closeFd);
    this.#waiting.length = 0;
    this.#options.stream.close();
    this.#options.onEnd(fault, error);
  }
}

function named(name: string, { code, message }: ProtocolFault): ProtocolFault {
  return message.startsWith(name) ? { code, message } : { code, message: `${name}: ${message}` };
}
