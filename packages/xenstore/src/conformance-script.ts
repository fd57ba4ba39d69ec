import { XS_ERROR, XS_GET_DOMAIN_PATH, XS_WATCH_EVENT } from '@virtlab/abi/xs-wire';
import { byteString } from './byte-string.ts';
import type { ByteStream } from './contract.ts';
import { OPERATIONS, type OperationName } from './operation-names.ts';
import { type XenstorePacket, XenstorePacketParser, encodePacket } from './wire.ts';

/** START and END are short for TRANSACTION_…. */
type NamedOperation = Exclude<OperationName, 'TRANSACTION_START' | 'TRANSACTION_END'> | 'START' | 'END';

const SCRIPT_OPERATIONS: Readonly<Record<NamedOperation, number>> = {
  ...OPERATIONS,
  START: OPERATIONS.TRANSACTION_START,
  END: OPERATIONS.TRANSACTION_END,
};

/** By name, or `#` and the number on the wire. */
export type ScriptOperation = NamedOperation | `#${number}`;

/**
 * One line of a script; `|` stands for NUL in payloads.
 *
 * - `[who, operation, request, reply]`: `who` is a domain id with an optional letter, so that a domain can have
 *   several connections (`0`, `0b`, `5`), and an optional transaction (`0/t`). The reply is the expected payload;
 *   `!ENOENT` expects that error; `=t` names the transaction that the reply starts.
 * - `[who, 'EVENT', 'path|token|']`: the next message on the connection is this event.
 * - `[who, 'QUIET']`: nothing is waiting on the connection.
 */
export type ScriptRow =
  | readonly [who: string, operation: ScriptOperation, request: string, reply: string]
  | readonly [who: string, operation: 'EVENT', event: string]
  | readonly [who: string, operation: 'QUIET'];

export type ProfileName = 'c-4.17' | 'c-head' | 'oxenstored';

/** What differs between the daemons: `other` for every profile that is not named. */
export type PerProfile = { readonly other: string } & Partial<Readonly<Record<ProfileName, string>>>;

/** A `ScriptRow` whose expectation may depend on the profile. */
export type CaseRow =
  | readonly [who: string, operation: ScriptOperation, request: string, reply: string | PerProfile]
  | readonly [who: string, operation: 'EVENT', event: string | PerProfile]
  | readonly [who: string, operation: 'QUIET'];

/** One requirement, as a script that shows it. */
export interface ConformanceCase {
  /** The requirement. */
  readonly name: string;
  /** Needs connections of unprivileged domains. */
  readonly guests?: true;
  /** Whose requirement it is; absent: everybody's. */
  readonly profiles?: readonly ProfileName[];
  readonly rows: readonly CaseRow[];
}

/** The rows of a case as they stand for one profile. */
export function rowsFor({ rows }: ConformanceCase, profile: ProfileName): ScriptRow[] {
  const expected = (value: string | PerProfile): string =>
    typeof value === 'string' ? value : (value[profile] ?? value.other);
  return rows.map((row): ScriptRow => {
    if (row[1] === 'QUIET') return row;
    if (row[1] === 'EVENT') return [row[0], 'EVENT', expected(row[2])];
    const [who, operation, request, reply] = row;
    return [who, operation, request, expected(reply)];
  });
}

/** Some daemons send more than `XENSTORE_PAYLOAD_MAX`. */
const REPLY_SIZE_MAX = 2 ** 20;

/** A connection that a script talks over: raw packets out, raw packets in. */
export class ScriptConnection {
  readonly #stream: ByteStream;
  readonly #parser = new XenstorePacketParser(REPLY_SIZE_MAX);
  readonly #received: XenstorePacket[] = [];
  readonly closed: Promise<void>;
  #isClosed = false;
  #onPacket: (() => void) | undefined;
  #unsent: Uint8Array = new Uint8Array();
  #reqId = 0x1000;

  constructor(stream: ByteStream) {
    this.#stream = stream;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.closed = promise;
    stream.attach({
      onData: (bytes) => this.#receive(bytes),
      onDrain: () => this.#flush(),
      onClose: () => {
        this.#isClosed = true;
        this.#onPacket?.();
        resolve();
      },
    });
  }

  /** Sends a request and returns its number. */
  send(type: number, txId: number, payload: string): number {
    this.#reqId += 1;
    this.sendBytes(encodePacket(type, this.#reqId, txId, payload));
    return this.#reqId;
  }

  sendBytes(bytes: Uint8Array): void {
    const joined = new Uint8Array(this.#unsent.length + bytes.length);
    joined.set(this.#unsent);
    joined.set(bytes, this.#unsent.length);
    this.#unsent = joined;
    this.#flush();
  }

  /** The next message in the order of arrival; undefined when the connection has ended. */
  async next(): Promise<XenstorePacket | undefined> {
    if (this.#received.length === 0 && !this.#isClosed) {
      await new Promise<void>((resolve) => {
        this.#onPacket = resolve;
      });
    }
    return this.#received.shift();
  }

  close(): void {
    this.#stream.close();
  }

  #flush(): void {
    const bytes = this.#unsent;
    this.#unsent = new Uint8Array();
    const taken = this.#stream.send(bytes);
    if (taken < bytes.length) this.#unsent = bytes.subarray(taken);
  }

  #receive(bytes: Uint8Array): void {
    this.#parser.push(bytes);
    for (;;) {
      const parsed = this.#parser.next();
      if (parsed.status === 'error') throw new Error(`unreadable reply: ${parsed.reason}`);
      if (parsed.status === 'need') return;
      this.#push({ ...parsed.packet, payload: parsed.packet.payload.slice() });
    }
  }

  #push(packet: XenstorePacket): void {
    this.#received.push(packet);
    this.#onPacket?.();
    this.#onPacket = undefined;
  }
}

/**
 * Plays `rows` and returns what really happened, in the form of the rows: an expectation holds if and only if the
 * result equals them.
 */
export async function playScript(
  rows: readonly ScriptRow[],
  connect: (who: string) => Promise<ScriptConnection>,
): Promise<ScriptRow[]> {
  const transactions = new Map<string, number>();
  const played: ScriptRow[] = [];
  for (const row of rows) {
    const [who, operation, request = '', expected = ''] = row;
    const [name = '', transaction] = who.split('/');
    const connection = await connect(name);
    if (operation === 'EVENT') {
      played.push([who, operation, eventText(await connection.next())]);
    } else if (operation === 'QUIET') {
      const reply = await roundTrip(connection, XS_GET_DOMAIN_PATH, 0, '7\0');
      played.push(reply === '/local/domain/7|' ? [who, operation] : [who, 'EVENT', reply]);
    } else {
      const type = operation.startsWith('#')
        ? Number(operation.slice(1))
        : SCRIPT_OPERATIONS[operation as NamedOperation];
      const txId = transaction === undefined ? 0 : (transactions.get(transaction) ?? Number(transaction));
      const reply = await roundTrip(connection, type, txId, request.replaceAll('|', '\0'));
      const isStart = expected.startsWith('=') && /^[1-9]\d*\|$/.test(reply);
      if (isStart) transactions.set(expected.slice(1), Number(reply.slice(0, -1)));
      played.push([who, operation, request, isStart ? expected : reply]);
    }
  }
  return played;
}

async function roundTrip(
  connection: ScriptConnection,
  type: number,
  txId: number,
  payload: string,
): Promise<string> {
  const reqId = connection.send(type, txId, payload);
  const reply = await connection.next();
  if (reply === undefined) return '(connection ended)';
  if (reply.type === XS_WATCH_EVENT) return `(event first) ${eventText(reply)}`;
  if (reply.reqId !== reqId || reply.txId !== txId) return `(reply to ${reply.reqId} in ${reply.txId})`;
  const text = byteString(reply.payload).replaceAll('\0', '|');
  if (reply.type === XS_ERROR) return `!${text.slice(0, -1)}`;
  return reply.type === type ? text : `(reply of type ${reply.type}) ${text}`;
}

function eventText(packet: XenstorePacket | undefined): string {
  if (packet === undefined) return '(connection ended)';
  const text = byteString(packet.payload).replaceAll('\0', '|');
  const isEvent = packet.type === XS_WATCH_EVENT && packet.reqId === 0 && packet.txId === 0;
  return isEvent ? text : `(type ${packet.type}) ${text}`;
}
