/** What a peer did against the protocol, or why an exchange with it came to nothing. A value, never thrown. */
export interface ProtocolFault {
  readonly code: ProtocolFaultCode;
  /** A sentence naming the message and the offending value. */
  readonly message: string;
}

/**
 * `BAD_VERSION`, `BAD_FLAGS`, `UNKNOWN_REQUEST`, `OVERSIZED`, `BAD_SIZE`, `BAD_FDS`, `BAD_VALUE`: the message cannot be
 * right whatever the state. `BAD_STATE`: not now, or not without a feature. `REFUSED`: this side could not do it, or the
 * peer said that it could not. `CLOSED`, `TIMEOUT`, `SLOW`: the exchange ended, took too long, or the peer does not read.
 */
export type ProtocolFaultCode =
  | 'BAD_VERSION'
  | 'BAD_FLAGS'
  | 'UNKNOWN_REQUEST'
  | 'OVERSIZED'
  | 'BAD_SIZE'
  | 'BAD_FDS'
  | 'BAD_VALUE'
  | 'BAD_STATE'
  | 'REFUSED'
  | 'CLOSED'
  | 'TIMEOUT'
  | 'SLOW';

export type Outcome<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly fault: ProtocolFault };

export function good<T>(value: T): Outcome<T> {
  return { ok: true, value };
}

export function bad(
  code: ProtocolFaultCode,
  message: string,
): { readonly ok: false; readonly fault: ProtocolFault } {
  return { ok: false, fault: { code, message } };
}

/** The shorter spelling where a fault alone is the answer. */
export function protocolFault(code: ProtocolFaultCode, message: string): ProtocolFault {
  return { code, message };
}

export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}
