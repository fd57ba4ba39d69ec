import type { VhostUserBackend, VhostUserBackendEnd } from '@virtlab/vhost-user';
import type { Report, Traffic } from './report.ts';

/** Reasons for refusals that one connection may put into the log: the other side can make them up without end. */
const REFUSALS_MAX = 16;

/** Reports what requests change in one connection, once they are done, from its beginning to its end. */
export class ConnectionReport {
  readonly #socket: string;
  readonly #report: (report: Report) => void;
  readonly #hasAllowShrink: boolean;
  readonly #running = new Set<number>();
  readonly #refusals = new Set<string>();
  #features = '';
  #isPlanned = false;
  #hasEnded = false;

  /** `hasAllowShrink`: the command has that option, to be named where it would help. */
  constructor(socket: string, report: (report: Report) => void, hasAllowShrink = false) {
    this.#socket = socket;
    this.#report = report;
    this.#hasAllowShrink = hasAllowShrink;
    report({ event: 'connected', socket });
  }

  /** A request has come, or what it did is known. */
  look(backend: VhostUserBackend): void {
    if (this.#isPlanned) return;
    this.#isPlanned = true;
    setImmediate(() => {
      this.#isPlanned = false;
      if (!this.#hasEnded) this.#compare(backend);
    });
  }

  /** A request was refused: the other side is told that, and not why. Each reason is reported once, and only so many. */
  refuse(reason: string): void {
    if (this.#refusals.has(reason) || this.#refusals.size === REFUSALS_MAX) return;
    this.#refusals.add(reason);
    this.#warn(`refused: ${this.#withRemedy(reason)}`);
    if (this.#refusals.size === REFUSALS_MAX) this.#warn('what else it is refused is not reported');
  }

  end(end: VhostUserBackendEnd, { requests, kicks, calls }: Traffic): void {
    this.#hasEnded = true;
    for (const queue of this.#running) this.#tell(queue, 'stopped');
    const [socket, text] = [this.#socket, reasonOf(end)];
    const reason = text === undefined ? undefined : this.#withRemedy(text);
    this.#report({ event: 'disconnected', socket, reason, requests, kicks, calls });
  }

  #warn(message: string): void {
    this.#report({ event: 'warning', message: `${this.#socket}: ${message}` });
  }

  #withRemedy(reason: string): string {
    const canBeAllowed = this.#hasAllowShrink && reason.includes('its owner could take it back');
    return canBeAllowed ? `${reason}, and with --allow-shrink any` : reason;
  }

  #compare(backend: VhostUserBackend): void {
    const { features, protocolFeatures, vrings } = backend.status();
    const [socket, isAnyRunning] = [this.#socket, vrings.some(({ isRunning }) => isRunning)];
    const text = `0x${features.toString(16)}`;
    if (isAnyRunning && text !== this.#features) {
      this.#features = text;
      const names = protocolFeatures.join(' ');
      this.#report({ event: 'features', socket, features: text, protocolFeatures: names });
    }
    for (const [queue, { isRunning }] of vrings.entries()) {
      if (isRunning === this.#running.has(queue)) continue;
      if (isRunning) this.#running.add(queue);
      else this.#running.delete(queue);
      this.#tell(queue, isRunning ? 'started' : 'stopped');
    }
  }

  #tell(queue: number, state: 'started' | 'stopped'): void {
    this.#report({ event: 'queue', socket: this.#socket, queue, state });
  }
}

function reasonOf({ fault, error }: VhostUserBackendEnd): string | undefined {
  if (error !== undefined) return error instanceof Error ? (error.stack ?? error.message) : String(error);
  return fault === undefined ? undefined : `${fault.code}: ${fault.message}`;
}
