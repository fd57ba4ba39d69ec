import type { ByteString } from './byte-string.ts';
import type { XenstoreErrorCode } from './errors.ts';
import type { StoreConnection, Transaction, XenstoreStore } from './store.ts';

/** An error code, or undefined when the handler has replied. */
export type Outcome = XenstoreErrorCode | undefined;

/** What requests may ask of the server that the store alone cannot do. */
export interface DomainAdministration {
  /** Connects the domain, or connects it anew. May take time; the requester's other requests wait. */
  introduce(domid: number, gfn: number, port: number): Outcome | Promise<Outcome>;
  releaseDomain(domid: number): void;
}

export interface ControlSinks {
  /** CONTROL `log on`, `log off`. */
  readonly log?: (isOn: boolean) => void;
  /** CONTROL `logfile`: the log goes on in this file, and is on. */
  readonly logFile?: (file: string) => void;
  /** CONTROL `log +<switch>`, `log -<switch>`: all that are set now (C HEAD). */
  readonly logSwitches?: (switches: ReadonlySet<string>) => void;
  /** CONTROL `print`. */
  readonly print?: (text: string) => void;
  /** CONTROL `memreport`: where the report goes, `file` when the client named one. Without a sink: EINVAL. */
  readonly memoryReport?: (report: string, file: string | undefined) => Outcome;
  /** Commands that no real daemon has, by name; looked at after the profile's own. */
  readonly extensions?: ReadonlyMap<string, ControlExtension>;
}

/** What CONTROL remembers, for as long as the daemon runs. */
export interface ControlState {
  /** Switches of the log that are on (C HEAD, `trace_switches`). */
  readonly logSwitches: Set<string>;
}

export type ControlExtension = (
  request: Request,
  parameters: readonly string[],
) => Outcome | Promise<Outcome>;

/** One request in the hands of its handler. */
export interface Request {
  readonly store: XenstoreStore;
  readonly administration: DomainAdministration;
  readonly control: ControlSinks;
  readonly controlState: ControlState;
  readonly connection: StoreConnection;
  readonly transaction: Transaction | undefined;
  /** Goes along with the events that the request causes. */
  readonly cause: unknown;
  readonly payload: Uint8Array;
  /** Sends the reply; E2BIG instead if the payload is over the limit. Exactly once, unless the outcome is an error. */
  reply(payload: ByteString): void;
  /** Queues an event for the requester itself. */
  sendEvent(path: string, token: string): void;
}

export type RequestHandler = (request: Request) => Outcome | Promise<Outcome>;

/** The reply of operations that have nothing else to say. */
export const ACK: ByteString = 'OK\0';
