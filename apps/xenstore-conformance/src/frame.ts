import { XSD_SOCKMSG } from '@virtlab/abi/xs-wire';

export interface FrameOptions {
  /** Default 0. */
  readonly reqId?: number;
  readonly txId?: number;
  /** What the header claims. Default: the payload's length. */
  readonly payloadSize?: number;
}

/** A message as a string of bytes; unlike the library's encoder it makes what is forbidden, too. */
export function frame(type: number, payload: string, options: FrameOptions = {}): string {
  const header = new DataView(new ArrayBuffer(XSD_SOCKMSG.size));
  const { offset } = XSD_SOCKMSG;
  header.setUint32(offset.type, type, true);
  header.setUint32(offset.req_id, options.reqId ?? 0, true);
  header.setUint32(offset.tx_id, options.txId ?? 0, true);
  header.setUint32(offset.len, options.payloadSize ?? payload.length, true);
  return String.fromCharCode(...new Uint8Array(header.buffer)) + payload;
}

/** The bytes of a string of bytes. */
export function bytesOf(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(text, (char) => char.charCodeAt(0));
}

/** The inverse of `bytesOf`. */
export function textOf(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += String.fromCharCode(byte);
  return text;
}
