import type { AccessLog, LoggedConnection } from './access-log.ts';
import type { DaemonCounters } from './daemon-counters.ts';
import type { FaultInjector } from './fault-injector.ts';
import { messageText } from './message-text.ts';
import type { XenstoreQuotas } from './profile.ts';
import type { WaitReason } from './server-connection.ts';
import type { XenstorePacket } from './wire.ts';

type MessageTrace = (
  direction: 'in' | 'out',
  connection: LoggedConnection,
  type: number,
  reqId: number,
  txId: number,
  payload: string | Uint8Array,
) => void;

/** Who looks on: counters always, access log and trace when somebody wants them, and what goes wrong on purpose. */
export class ServerMonitor {
  readonly counters: DaemonCounters;
  readonly faults: FaultInjector;
  /** Runs a function soon. */
  readonly defer: (run: () => void) => void;
  trace: MessageTrace | undefined;
  #accessLog: AccessLog | undefined;

  constructor(counters: DaemonCounters, faults: FaultInjector, defer: (run: () => void) => void) {
    this.counters = counters;
    this.faults = faults;
    this.defer = defer;
  }

  get accessLog(): AccessLog | undefined {
    return this.#accessLog;
  }

  /** Undefined ends it. */
  logTo(accessLog: AccessLog | undefined): void {
    this.#accessLog = accessLog;
    this.counters.onFanOut =
      accessLog === undefined ? undefined : (path, eventCount) => accessLog.fanOut(path, eventCount);
  }

  /** Each message in and out, as one line without its end: time, direction, connection, domain, message. */
  traceTo(write: ((line: string) => void) | undefined): void {
    if (write === undefined) {
      this.trace = undefined;
      return;
    }
    const { clock } = this.counters;
    this.trace = (direction, { id, domid }, type, reqId, txId, payload) => {
      const time = new Date(clock.now()).toISOString();
      write(`${time} ${direction} conn ${id} dom ${domid} ${messageText(type, reqId, txId, payload)}`);
    };
  }

  requestBegins(connection: LoggedConnection, { type, reqId, txId, payload }: XenstorePacket): void {
    this.counters.request(type);
    this.counters.cause = undefined;
    this.trace?.('in', connection, type, reqId, txId, payload);
  }

  /** The reply is queued; `cause` says why, if it is an error. */
  requestEnds(connection: AnsweredConnection, packet: XenstorePacket, cause: string | undefined): void {
    const log = this.#accessLog;
    if (log === undefined) return;
    const { lastOutcome, lastReplySize } = connection;
    log.request(connection, packet, lastReplySize, lastOutcome, lastOutcome === 'OK' ? undefined : cause);
  }

  /** A request has to wait; where a quota is the reason, it counts as fired. */
  held(connection: HeldConnection, reason: WaitReason, quotas: XenstoreQuotas): void {
    const { domid, domain } = connection.state;
    if (reason === 'outstanding') {
      this.counters.quotaFired('outstanding', domid, 'input', domain.outstandingCount, quotas.outstanding);
    } else if (reason === 'memory') {
      this.counters.quotaFired('memory', domid, 'input', domain.memorySize, quotas.memorySize);
    } else if (reason === 'write-rate') {
      // Writes ahead of what the domain may make: its credit is the limit's own business.
      this.counters.quotaFired('write-rate', domid, 'input', 1, 0);
    }
  }
}

interface AnsweredConnection extends LoggedConnection {
  readonly lastOutcome: string;
  readonly lastReplySize: number;
}

interface HeldConnection {
  readonly state: {
    readonly domid: number;
    readonly domain: { readonly outstandingCount: number; readonly memorySize: number };
  };
}
