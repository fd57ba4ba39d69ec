import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { Daemon, type DaemonName } from './daemon.ts';

/** EXIT_TERMINATED of the command. */
const ENDED_IN_ORDER = 143;

/** A folder of a suite, and the daemons whose sockets and images are in it. */
export class DaemonFolder {
  readonly path: string = mkdtempSync(join(tmpdir(), 'virtlab-backends-'));
  readonly #daemons: Daemon[] = [];
  /** Those that were ended before, too. */
  readonly #all: Daemon[] = [];

  /** To be called in a suite, before its machines: their ends come first then. Daemons have to end in order, to have nothing left, and to warn of nothing. */
  constructor(prepare: (folder: DaemonFolder) => Promise<void> = async () => {}) {
    beforeAll(async () => await prepare(this));
    afterAll(async () => {
      const codes = await Promise.all(this.#daemons.map((daemon) => daemon.end()));
      rmSync(this.path, { recursive: true });
      const broken = this.#daemons.filter((_, index) => codes[index] !== ENDED_IN_ORDER);
      const messages = broken.map(
        ({ messages: text, reports }) => `${text}${JSON.stringify(reports.slice(-3))}`,
      );
      if (broken.length > 0)
        throw new Error(`Daemons ended with ${codes.join(', ')}: ${messages.join('; ')}`);
      const warnings = this.#all.flatMap(({ warnings: said, mayWarn }) => (mayWarn ? [] : said));
      if (warnings.length > 0) throw new Error(`Daemons warned: ${warnings.join('; ')}`);
    });
  }

  file(name: string): string {
    return join(this.path, name);
  }

  /** Ended with the suite. */
  async start(name: DaemonName, ...args: readonly string[]): Promise<Daemon> {
    const daemon = await Daemon.start(name, ...args);
    this.#daemons.push(daemon);
    this.#all.push(daemon);
    return daemon;
  }

  /** One that a test ends by itself. */
  forget(daemon: Daemon): void {
    this.#daemons.splice(this.#daemons.indexOf(daemon), 1);
  }
}
