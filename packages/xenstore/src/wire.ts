import { XENSTORE_PAYLOAD_MAX, XSD_SOCKMSG } from '@virtlab/abi/xs-wire';
import { type ByteString, knownString, putByteString } from './byte-string.ts';

export { OPERATIONS, type OperationName } from './operation-names.ts';

/** One message (xenstore.txt, "Communication with xenstored"). Numbers are u32. */
export interface XenstorePacket {
  readonly type: number;
  readonly reqId: number;
  readonly txId: number;
  readonly payload: Uint8Array;
}

export type ParseResult =
  /** At least `byteCount` more bytes must be pushed before there can be a packet. */
  | { readonly status: 'need'; readonly byteCount: number }
  /** The payload is a view that is valid until the next `push`. */
  | { readonly status: 'packet'; readonly packet: XenstorePacket }
  /** The stream is beyond repair: where the next packet begins is unknown. Said again at every call. */
  | { readonly status: 'error'; readonly reason: string };

const HEADER_SIZE: number = XSD_SOCKMSG.size;
const { type: TYPE, req_id: REQ_ID, tx_id: TX_ID, len: LEN } = XSD_SOCKMSG.offset;
const IDLE_CAPACITY = 1024;

/** How a daemon deals with what has too much payload, or none. */
export interface FramingStyle {
  /** A payload over the limit is cut there, and the rest taken for the next packet, instead of an error. */
  readonly truncatesPayloads?: boolean;
  /** A packet without payload is seen only when more bytes are there behind it. */
  readonly emptyPayloadsWait?: boolean;
}

/**
 * Takes a byte stream apart, however it is fragmented. Without input or output of its own: `push` what arrived,
 * then call `next` until it needs more. Holds what was pushed and not yet returned, so whoever feeds it bounds its
 * memory.
 */
export class XenstorePacketParser {
  readonly #payloadSizeMax: number;
  readonly #style: FramingStyle;
  #bytes = new Uint8Array(IDLE_CAPACITY);
  #view = new DataView(this.#bytes.buffer);
  #start = 0;
  #end = 0;
  #failure: ParseResult | undefined;

  constructor(payloadSizeMax: number = XENSTORE_PAYLOAD_MAX, style: FramingStyle = {}) {
    this.#payloadSizeMax = payloadSizeMax;
    this.#style = style;
  }

  /** Bytes pushed and not yet returned as packets. */
  get bufferedSize(): number {
    return this.#end - this.#start;
  }

  /** Copies `bytes`. Views of earlier packets become invalid. */
  push(bytes: Uint8Array): void {
    const buffered = this.bufferedSize;
    const needed = buffered + bytes.length;
    if (needed > this.#bytes.length || (buffered === 0 && this.#bytes.length > IDLE_CAPACITY)) {
      const grown = new Uint8Array(Math.max(IDLE_CAPACITY, needed));
      grown.set(this.#bytes.subarray(this.#start, this.#end));
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
      this.#start = 0;
    } else if (this.#end + bytes.length > this.#bytes.length) {
      this.#bytes.copyWithin(0, this.#start, this.#end);
      this.#start = 0;
    }
    this.#bytes.set(bytes, this.#start + buffered);
    this.#end = this.#start + needed;
  }

  next(): ParseResult {
    if (this.#failure !== undefined) return this.#failure;
    const buffered = this.bufferedSize;
    if (buffered < HEADER_SIZE) return { status: 'need', byteCount: HEADER_SIZE - buffered };
    const at = this.#start;
    let payloadSize = this.#view.getUint32(at + LEN, true);
    if (payloadSize > this.#payloadSizeMax && this.#style.truncatesPayloads === true) {
      payloadSize = this.#payloadSizeMax;
    }
    if (payloadSize > this.#payloadSizeMax) {
      this.#failure = {
        status: 'error',
        reason: `payload of ${payloadSize} bytes, at most ${this.#payloadSizeMax}`,
      };
      return this.#failure;
    }
    const size = HEADER_SIZE + payloadSize;
    if (buffered < size) return { status: 'need', byteCount: size - buffered };
    if (payloadSize === 0 && buffered === size && this.#style.emptyPayloadsWait === true) {
      return { status: 'need', byteCount: 1 };
    }
    this.#start += size;
    return {
      status: 'packet',
      packet: {
        type: this.#view.getUint32(at + TYPE, true),
        reqId: this.#view.getUint32(at + REQ_ID, true),
        txId: this.#view.getUint32(at + TX_ID, true),
        payload: this.#bytes.subarray(at + HEADER_SIZE, at + size),
      },
    };
  }
}

/** A message as bytes, fresh and owned by the caller. Throws `RangeError` when the payload is over `payloadSizeMax`. */
export function encodePacket(
  type: number,
  reqId: number,
  txId: number,
  payload: ByteString | Uint8Array,
  payloadSizeMax: number = XENSTORE_PAYLOAD_MAX,
): Uint8Array<ArrayBuffer> {
  if (payload.length > payloadSizeMax)
    throw new RangeError(`Payload of ${payload.length} bytes is too large`);
  const bytes = new Uint8Array(HEADER_SIZE + payload.length);
  putU32(bytes, TYPE, type);
  putU32(bytes, REQ_ID, reqId);
  putU32(bytes, TX_ID, txId);
  putU32(bytes, LEN, payload.length);
  if (typeof payload === 'string') putByteString(bytes, HEADER_SIZE, payload);
  else bytes.set(payload, HEADER_SIZE);
  return bytes;
}

/** Not through a `DataView`: asking for the buffer of a small array moves it off the heap, which costs most of a reply. */
function putU32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
  bytes[at + 2] = value >>> 16;
  bytes[at + 3] = value >>> 24;
}

/** The complete strings of a payload; bytes after the last NUL are not among them. */
export function nulStrings(payload: Uint8Array): ByteString[] {
  const strings: ByteString[] = [];
  for (let start = 0; start < payload.length;) {
    const nul = payload.indexOf(0, start);
    if (nul < 0) break;
    strings.push(knownString(payload, start, nul));
    start = nul + 1;
  }
  return strings;
}

/** The payload's only string, if it is exactly one with its NUL. */
export function singleString(payload: Uint8Array): ByteString | undefined {
  const { length } = payload;
  return length > 0 && payload.indexOf(0) === length - 1 ? knownString(payload, 0, length - 1) : undefined;
}

/** Each string followed by NUL. */
export function joinStrings(strings: readonly ByteString[]): ByteString {
  return strings.length === 0 ? '' : `${strings.join('\0')}\0`;
}
