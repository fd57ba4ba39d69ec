import { appendFileSync } from 'node:fs';
import { AccessLog } from '../access-log.ts';
import type { ControlSinks, Outcome } from '../request.ts';
import type { ServerMonitor } from '../server-monitor.ts';
import { LogFile } from './log-file.ts';

/** The access log and what CONTROL `log` and `logfile` do to it. */
export class DaemonLogging {
  #monitor: ServerMonitor | undefined;
  #file: LogFile | undefined;
  #opening: Promise<void> = Promise.resolve();

  readonly sinks: ControlSinks = {
    log: (isOn) => this.#switch(isOn),
    logFile: (file) => {
      this.#opening = this.#opening.then(() => this.open(file)).catch(() => undefined);
    },
    print: (text) => this.#monitor?.accessLog?.note(text),
    memoryReport: (report, file) => this.#report(report, file),
  };

  writeTo(monitor: ServerMonitor): void {
    this.#monitor = monitor;
  }

  /** Logs to this file from now on. Rejects if it cannot be opened; then everything stays as it is. */
  async open(path: string): Promise<void> {
    if (this.#file === undefined) this.#file = await LogFile.open(path);
    else await this.#file.reopen(path);
    this.#switch(true);
  }

  async reopen(): Promise<void> {
    await this.#opening;
    await this.#file?.reopen();
  }

  async close(): Promise<void> {
    await this.#opening;
    this.#switch(false);
    await this.#file?.close();
  }

  /** As the C daemon: to the named file or to the log; EBADF, which the wire has no name for, if there is none. */
  #report(report: string, file: string | undefined): Outcome {
    if (file === undefined) {
      const log = this.#monitor?.accessLog;
      for (const line of report.trimEnd().split('\n')) log?.note(line);
      return log === undefined ? 'EINVAL' : undefined;
    }
    try {
      appendFileSync(file, report, { mode: 0o600 });
      return undefined;
    } catch {
      return 'EINVAL';
    }
  }

  #switch(isOn: boolean): void {
    const file = this.#file;
    const monitor = this.#monitor;
    if (monitor === undefined) return;
    const log =
      isOn && file !== undefined
        ? new AccessLog((line) => file.write(line), monitor.counters.clock)
        : undefined;
    monitor.logTo(log);
  }
}
