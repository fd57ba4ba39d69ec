import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { EndSignals, exitCodeOf } from '../end-signals.ts';
import { EXIT_ENVIRONMENT, EXIT_FAILED, EXIT_OK, EXIT_USAGE } from '../exit-codes.ts';
import { StartError } from '../start-error.ts';
import type { DaemonPlan } from './daemon-plan.ts';
import type { ThreadRequest } from './service.ts';
import { type Report, createPrinter } from './report.ts';

/** For connections and requests to end in order, before the thread is ended anyway. */
const ENDING_TIMEOUT_MS = 5000;

/**
 * Runs a device in a thread of its own until SIGINT or SIGTERM, or until an inherited connection is over, and ends the process.
 * `makePlan` may throw `StartError`.
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
  const thread = new DeviceThread(plan, createPrinter(name, isJson));
  process.on('SIGHUP', () => thread.tell('refresh'));
  const signal = await Promise.race([signals.first, thread.ended.then(() => undefined)]);
  if (signal !== undefined) {
    process.stderr.write('virtlab: shutting down\n');
    await thread.end();
  }
  const code = await thread.ended;
  process.exit(code === EXIT_OK && signal !== undefined ? exitCodeOf(signal) : code);
}

class DeviceThread {
  /** The exit code as far as the thread is concerned. */
  readonly ended: Promise<number>;
  readonly #worker: Worker;
  #code: number = EXIT_FAILED;

  constructor(plan: DaemonPlan, printer: ReturnType<typeof createPrinter>) {
    const entry = import.meta.url.endsWith('.ts') ? './device-thread.ts' : './device-thread.js';
    this.#worker = new Worker(new URL(entry, import.meta.url), { workerData: plan });
    this.#worker.on('message', (report: Report) => this.#take(report, printer));
    this.#worker.on('error', (error) => void process.stderr.write(`virtlab: ${messageOf(error)}\n`));
    this.ended = once(this.#worker, 'exit').then(
      () => this.#code,
      () => EXIT_FAILED,
    );
  }

  tell(request: ThreadRequest): void {
    this.#worker.postMessage(request);
  }

  async end(): Promise<void> {
    this.tell('end');
    const timer = setTimeout(() => void this.#worker.terminate(), ENDING_TIMEOUT_MS);
    await this.ended;
    clearTimeout(timer);
  }

  #take(report: Report, printer: ReturnType<typeof createPrinter>): void {
    printer.print(report);
    if (report.event === 'refused') {
      this.#code = refuse(report.kind, report.message);
    } else if (report.event === 'closed') {
      if (report.problem !== undefined) process.stderr.write(`virtlab: ${report.problem}\n`);
      else if (this.#code === EXIT_FAILED) this.#code = EXIT_OK;
    }
  }
}

function refuse(kind: StartError['kind'], message: string): number {
  process.stderr.write(`virtlab: ${message}\n`);
  process.exitCode = kind === 'usage' ? EXIT_USAGE : EXIT_ENVIRONMENT;
  return process.exitCode;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
