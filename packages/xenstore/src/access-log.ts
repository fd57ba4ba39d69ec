import { byteString } from './byte-string.ts';
import type { DaemonClock } from './daemon-clock.ts';
import { escapeBytes } from './message-text.ts';
import { operationName } from './operation-names.ts';
import type { XenstorePacket } from './wire.ts';

/** Whose line it is: the connection's id and domain. */
export interface LoggedConnection {
  readonly id: number;
  readonly domid: number;
}

/** Most bytes of a path or argument that a line shows. */
const SUBJECT_SIZE = 512;

/**
 * The access log, a line each for requests, connections that come and go, and changes that many watches hear of:
 *
 *     2026-01-01T12:00:00.000Z conn 3 dom 5 tx 1 WRITE /a/b in 7 out 3 OK
 *     2026-01-01T12:00:00.001Z conn 3 dom 5 tx 1 TRANSACTION_END T in 2 out 7 EAGAIN /a/b changed by conn 4 dom 0 …
 *
 * `in` and `out` are the payloads' sizes in bytes. What a client wrote is escaped, so that a line is a line.
 */
export class AccessLog {
  readonly #write: (line: string) => void;
  readonly #clock: DaemonClock;
  readonly #fanOutCount: number;
  #lastTime = Number.NaN;
  #lastText = '';

  /** `write` gets lines without their end. Changes that fewer than `fanOutCount` watches hear of are not logged. */
  constructor(write: (line: string) => void, clock: DaemonClock, fanOutCount: number = 16) {
    this.#write = write;
    this.#clock = clock;
    this.#fanOutCount = fanOutCount;
  }

  opened({ id, domid }: LoggedConnection, kind: string): void {
    this.#line(`conn ${id} dom ${domid} opened ${kind}`);
  }

  closed({ id, domid }: LoggedConnection, reason: string): void {
    this.#line(`conn ${id} dom ${domid} closed: ${escapeBytes(reason)}`);
  }

  /** `outcome` is OK or an error's name, `cause` why in words. */
  request(
    { id, domid }: LoggedConnection,
    packet: XenstorePacket,
    replySize: number,
    outcome: string,
    cause: string | undefined,
  ): void {
    const { type, txId, payload } = packet;
    const subject = requestSubject(payload);
    const why = cause === undefined ? '' : ` ${escapeBytes(cause)}`;
    this.#line(
      `conn ${id} dom ${domid} tx ${txId} ${operationName(type)}${subject} in ${payload.length} out ${replySize} ${outcome}${why}`,
    );
  }

  fanOut(path: string, eventCount: number): void {
    if (eventCount >= this.#fanOutCount) this.#line(`${escapeBytes(path)} heard by ${eventCount} watches`);
  }

  /** Anything else worth a line. */
  note(text: string): void {
    this.#line(escapeBytes(text));
  }

  #line(text: string): void {
    const now = this.#clock.now();
    if (now !== this.#lastTime) {
      this.#lastTime = now;
      this.#lastText = new Date(now).toISOString();
    }
    this.#write(`${this.#lastText} ${text}`);
  }
}

/** The first string of the payload, which is a path for most operations. */
function requestSubject(payload: Uint8Array): string {
  const nul = payload.indexOf(0);
  const end = Math.min(nul < 0 ? payload.length : nul, SUBJECT_SIZE);
  return end === 0 ? '' : ` ${escapeBytes(byteString(payload, 0, end))}`;
}
