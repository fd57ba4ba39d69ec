import type { XsdErrorName } from '@virtlab/abi/xs-wire';

/** What an `XS_ERROR` reply can name; `EQUOTA` is sent by oxenstored only and is in no header. */
export type XenstoreErrorCode = XsdErrorName | 'EQUOTA';

/**
 * A xenstore operation failed. `code` is the daemon's answer in wire spelling, or `EIO` when the connection was
 * lost, in which case the message says why. `op` is the operation's name as in xenstore.txt.
 */
export class XenstoreError extends Error {
  override readonly name = 'XenstoreError';
  readonly code: XenstoreErrorCode;
  readonly op: string;
  readonly path: string | undefined;

  constructor(code: XenstoreErrorCode, op: string, path?: string, detail?: string) {
    super(
      `${op}${path === undefined ? '' : ` ${path}`}: ${code}${detail === undefined ? '' : ` (${detail})`}`,
    );
    this.code = code;
    this.op = op;
    this.path = path;
  }
}
