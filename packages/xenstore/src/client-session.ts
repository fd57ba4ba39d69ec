import { XENSTORE_PAYLOAD_MAX, XSD_ERRORS, XS_ERROR, XS_WATCH_EVENT } from '@virtlab/abi/xs-wire';
import { type ByteString, byteString, utf8ByteString } from './byte-string.ts';
import type { ByteStream, XenstoreCloseReason } from './contract.ts';
import { XenstoreError, type XenstoreErrorCode } from './errors.ts';
import { operationName } from './operation-names.ts';
import { type XenstorePacket, XenstorePacketParser, encodePacket, nulStrings } from './wire.ts';

/** Largest reply that is accepted: oxenstored exceeds the protocol's limit, a hostile daemon must not without bound. */
const REPLY_SIZE_MAX = 64 * 1024;

interface PendingRequest {
  readonly type: number;
  readonly path: string | undefined;
  readonly resolve: (payload: Uint8Array) => void;
  readonly reject: (error: XenstoreError) => void;
}

/** Requests and replies over one stream: numbering, matching, and what happens when the stream ends. */
export class ClientSession {
  readonly closed: Promise<XenstoreCloseReason | undefined>;
  readonly #stream: ByteStream;
  readonly #parser = new XenstorePacketParser(REPLY_SIZE_MAX);
  readonly #onEvent: (path: ByteString, token: ByteString) => void;
  readonly #pending = new Map<number, PendingRequest>();
  readonly #resolveClosed: (reason: XenstoreCloseReason | undefined) => void;
  #unsent: Uint8Array[] = [];
  #nextRequestId = 1;
  #endReason: string | undefined;
  #isFlushing = false;
  #isDrained = false;

  /** `onEvent` gets events as they come, before the replies that follow them. */
  constructor(stream: ByteStream, onEvent: (path: ByteString, token: ByteString) => void) {
    this.#stream = stream;
    this.#onEvent = onEvent;
    const { promise, resolve } = Promise.withResolvers<XenstoreCloseReason | undefined>();
    this.closed = promise;
    this.#resolveClosed = resolve;
    stream.attach({
      onData: (bytes) => this.#receive(bytes),
      onDrain: () => this.#flush(),
      onClose: (reason) => this.#end(reason ?? 'the daemon closed the connection'),
    });
  }

  get isClosed(): boolean {
    return this.#endReason !== undefined;
  }

  /** Sends one request; resolves with a payload that the caller owns. `path` is for the error's message. */
  request(type: number, txId: number, payload: ByteString | Uint8Array, path?: string): Promise<Uint8Array> {
    if (this.#endReason !== undefined) return Promise.reject(failure('EIO', type, path, this.#endReason));
    if (payload.length > XENSTORE_PAYLOAD_MAX) return Promise.reject(failure('E2BIG', type, path));
    const reqId = this.#takeRequestId();
    const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>();
    this.#pending.set(reqId, { type, path, resolve, reject });
    this.#unsent.push(encodePacket(type, reqId, txId, payload));
    if (this.#unsent.length === 1) this.#flush();
    return promise;
  }

  /** Ends the connection; everything pending rejects. */
  close(): void {
    if (this.#endReason !== undefined) return;
    this.#end('the connection was closed', true);
    this.#stream.close();
  }

  #takeRequestId(): number {
    do this.#nextRequestId = (this.#nextRequestId + 1) >>> 0;
    while (this.#pending.has(this.#nextRequestId));
    return this.#nextRequestId;
  }

  /** May be called again from within `send`: then the loop that is running goes on. */
  #flush(): void {
    this.#isDrained = true;
    if (this.#isFlushing) return;
    this.#isFlushing = true;
    while (this.#isDrained) {
      this.#isDrained = false;
      this.#sendSome();
    }
    this.#isFlushing = false;
  }

  #sendSome(): void {
    const unsent = this.#unsent;
    let sentCount = 0;
    for (const bytes of unsent) {
      const taken = this.#stream.send(bytes);
      if (taken < bytes.length) {
        unsent[sentCount] = bytes.subarray(taken);
        break;
      }
      sentCount += 1;
    }
    unsent.splice(0, sentCount);
  }

  #receive(bytes: Uint8Array): void {
    this.#parser.push(bytes);
    while (this.#endReason === undefined) {
      const parsed = this.#parser.next();
      if (parsed.status === 'need') return;
      if (parsed.status === 'error') this.#violation(parsed.reason);
      else this.#accept(parsed.packet);
    }
  }

  #accept(packet: XenstorePacket): void {
    if (packet.type === XS_WATCH_EVENT) {
      const [path, token] = nulStrings(packet.payload);
      if (path === undefined || token === undefined) this.#violation('an event without path and token');
      else this.#onEvent(path, token);
      return;
    }
    const request = this.#pending.get(packet.reqId);
    if (request === undefined || (packet.type !== request.type && packet.type !== XS_ERROR)) {
      this.#violation(`a reply of type ${packet.type} to no such request (${packet.reqId})`);
      return;
    }
    this.#pending.delete(packet.reqId);
    if (packet.type === XS_ERROR) request.reject(replyError(packet.payload, request));
    else request.resolve(packet.payload.slice());
  }

  #violation(what: string): void {
    this.#end(`the daemon broke the protocol: ${what}`);
    this.#stream.close('protocol');
  }

  #end(reason: string, isOwn: boolean = false): void {
    if (this.#endReason !== undefined) return;
    this.#endReason = reason;
    this.#unsent = [];
    for (const { type, path, reject } of this.#pending.values()) reject(failure('EIO', type, path, reason));
    this.#pending.clear();
    this.#resolveClosed(isOwn ? undefined : reason);
  }
}

function failure(
  code: XenstoreErrorCode,
  type: number,
  path: string | undefined,
  detail?: string,
): XenstoreError {
  return new XenstoreError(code, operationName(type), path, detail);
}

function replyError(payload: Uint8Array, { type, path }: PendingRequest): XenstoreError {
  const name = nulStrings(payload)[0] ?? '';
  const code = [...XSD_ERRORS, 'EQUOTA' as const].find((known) => known === name);
  if (code !== undefined) return failure(code, type, path);
  return failure('EIO', type, path, `the daemon said ${JSON.stringify(byteString(payload))}`);
}

/** A string argument with its NUL, as UTF-8. Throws `TypeError` if it contains a NUL of its own. */
export function argument(text: string): ByteString {
  if (text.includes('\0')) throw new TypeError(`NUL in ${JSON.stringify(text)}`);
  return `${utf8ByteString(text)}\0`;
}
