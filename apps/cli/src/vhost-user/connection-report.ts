import type { VhostUserBackend, VhostUserBackendEnd } from '@virtlab/vhost-user';
import type { Report, Traffic } from './report.ts';

/** Reports what requests change in one connection, once they are done, from its beginning to its end. */
export class ConnectionReport {
  readonly #socket: string;
  readonly #report: (report: Report) => void;
  readonly #running = new Set<number>();
  #features = '';
  #isPlanned = false;
  #hasEnded = false;

  constructor(socket: string, report: (report: Report) => void) {
    this.#socket = socket;
    this.#report = report;
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

  end(end: VhostUserBackendEnd, { requests, kicks, calls }: Traffic): void {
    this.#hasEnded = true;
    for (const queue of this.#running) this.#tell(queue, 'stopped');
    const [socket, reason] = [this.#socket, reasonOf(end)];
    this.#report({ event: 'disconnected', socket, reason, requests, kicks, calls });
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
