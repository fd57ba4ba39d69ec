import { Worker } from 'node:worker_threads';
import { LinuxError, exitNow, linuxFfi, removeLeftSocket } from '@virtlab/linux';
import { EndSignals, exitCodeOf } from '../end-signals.ts';
import { EXIT_ENVIRONMENT, EXIT_FAILED, EXIT_OK, EXIT_USAGE } from '../exit-codes.ts';
import { standardOutputOfDaemon } from '../standard-output.ts';
import { StartError } from '../start-error.ts';
import type { DaemonPlan } from './daemon-plan.ts';
import type { ThreadRequest } from './service.ts';
import { type Printer, type Report, createPrinter } from './report.ts';
import { textOf } from './thread-life.ts';

/** For connections and requests to end in order, before the process is ended anyway. */
const ENDING_TIMEOUT_MS = 5000;

/**
 * Runs a device in a thread of its own until SIGINT or SIGTERM, until nobody reads its output any more, or until an inherited
 * connection is over, and ends the process. `makePlan` may throw `StartError`.
 */
export async function runDaemon(name: string, isJson: boolean, makePlan: () => DaemonPlan): Promise<void> {
  const signals = new EndSignals();
  let plan: DaemonPlan;
  try {
    plan = makePlan();
  } catch (error) {
    signals.release();
    if (!(error instanceof StartError)) throw error;
    refuse(error.kind, error.message);
    return;
  }
  const signalled = signals.first.then((signal) => {
    process.stderr.write('virtlab: shutting down\n');
    return exitCodeOf(signal);
  });
  const unread = standardOutputOfDaemon();
  const thread = new DeviceThread(plan, createPrinter(name, isJson));
  process.on('exit', (code) => thread.leave(code));
  process.on('SIGHUP', () => thread.tell('refresh'));
  const wanted = await Promise.race([signalled, unread, thread.ended.then(() => undefined)]);
  if (wanted !== undefined) await thread.end();
  const code = await thread.ended;
  process.exit(code === EXIT_OK && wanted !== undefined ? wanted : code);
}

class DeviceThread {
  /** The exit code as far as the thread is concerned: when that has ended, or has failed. */
  readonly ended: Promise<number>;
  readonly #end: (code: number) => void;
  readonly #plan: DaemonPlan;
  readonly #worker: Worker;
  #code: number = EXIT_FAILED;
  #hasClosed = false;
  #isRunning = true;

  constructor(plan: DaemonPlan, printer: Printer) {
    linuxFfi(); // for `leave`: before descriptors may be short
    const entry = import.meta.url.endsWith('.ts') ? './device-thread.ts' : './device-thread.js';
    const { promise, resolve } = Promise.withResolvers<number>();
    this.ended = promise;
    this.#end = resolve;
    this.#plan = plan;
    this.#worker = new Worker(new URL(entry, import.meta.url), { workerData: plan });
    this.#worker.on('message', (report: Report) => this.#take(report, printer));
    this.#worker.on('error', (error) => this.#fail(textOf(error)));
    this.#worker.on('exit', () => {
      this.#isRunning = false;
      this.#end(this.#code);
    });
  }

  tell(request: ThreadRequest): void {
    this.#worker.postMessage(request);
  }

  /** Resolves as `ended`, but in bounded time. */
  async end(): Promise<void> {
    this.tell('end');
    const timer = setTimeout(
      () => this.#fail(`the device has not ended within ${ENDING_TIMEOUT_MS / 1000} s`),
      ENDING_TIMEOUT_MS,
    );
    await this.ended;
    clearTimeout(timer);
  }

  /** Of the end of the process, whatever the thread does: last of all, for it may not return. */
  leave(code: number): void {
    if (!this.#hasClosed) removeSocketsOf(this.#plan);
    if (this.#isRunning && linuxFfi().available) exitNow(code);
  }

  #take(report: Report, printer: Printer): void {
    printer.print(report);
    if (report.event === 'refused') {
      this.#code = refuse(report.kind, report.message);
    } else if (report.event === 'failed') {
      this.#fail(report.message);
    } else if (report.event === 'closed') {
      this.#hasClosed = true;
      if (report.problem !== undefined) process.stderr.write(`virtlab: ${report.problem}\n`);
      else if (this.#code === EXIT_FAILED) this.#code = EXIT_OK;
    }
  }

  #fail(message: string): void {
    process.stderr.write(`virtlab: ${message}\n`);
    this.#end(EXIT_FAILED);
  }
}

function removeSocketsOf({ places, device }: DaemonPlan): void {
  const paths = places.flatMap((place) => ('fd' in place ? [] : [place.socketPath]));
  if (device.kind === 'net') paths.push(...device.streams);
  try {
    for (const path of paths) removeLeftSocket(path);
  } catch (error) {
    if (!(error instanceof LinuxError)) throw error; // as without a descriptor: the next daemon replaces what is left
  }
}

function refuse(kind: StartError['kind'], message: string): number {
  process.stderr.write(`virtlab: ${message}\n`);
  process.exitCode = kind === 'usage' ? EXIT_USAGE : EXIT_ENVIRONMENT;
  return process.exitCode;
}
