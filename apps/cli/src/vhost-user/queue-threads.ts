/** The threads of a split device, as the one that controls it has them. */
import { Worker } from 'node:worker_threads';
import { LinuxError, closeFd, socketPair } from '@virtlab/linux';
import {
  type SplitMember,
  type VhostUserBackendEnd,
  type VhostUserBackendStatus,
  vhostUserStream,
} from '@virtlab/vhost-user';
import { StartError } from '../start-error.ts';
import type { FromQueueThread, QueueThreadData, ToQueueThread } from './queue-messages.ts';
import type { Report, Traffic } from './report.ts';

export interface QueueThreadOptions {
  readonly data: QueueThreadData;
  readonly report: (report: Report) => void;
  /** A session's status was told. */
  readonly onStatus: () => void;
  /** The thread was ended from outside, without giving anything back. */
  readonly onDeath: (message: string) => void;
  /** What the thread runs; for tests. */
  readonly entry?: URL;
}

const NO_TRAFFIC: Traffic = { requests: 0, kicks: 0, calls: 0 };

/** What a thread does for one connection. */
interface Session {
  readonly ended: PromiseWithResolvers<VhostUserBackendEnd>;
  /** Until the thread has said that the descriptor is its own. */
  unclaimedFd: number | undefined;
  end: VhostUserBackendEnd | undefined;
  onRefusal: (reason: string) => void;
}

/** One thread, and the next when that one failed and somebody connects again. */
export class QueueThread {
  readonly #options: QueueThreadOptions;
  /** As the system shows it, too. */
  readonly #name: string;
  #worker: Worker | undefined;
  #exited: Promise<unknown> = Promise.resolve();
  #session: Session | undefined;
  #status: VhostUserBackendStatus | undefined;
  #traffic = NO_TRAFFIC;
  #failure: string | undefined;
  /** Has a disk open, as far as it has said. */
  #hasDisk = false;
  /** What was still there when a thread ended. */
  #problem: string | undefined;

  private constructor(name: string, options: QueueThreadOptions) {
    this.#name = name;
    this.#options = options;
  }

  /** Resolves when the disk is open, with the size of its configuration. Rejects with `StartError`. */
  static async start(
    name: string,
    options: QueueThreadOptions,
  ): Promise<{ readonly thread: QueueThread; readonly configSize: number }> {
    const thread = new QueueThread(name, options);
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    const worker = thread.#start();
    worker.on('message', (message: FromQueueThread) => {
      if (message.kind === 'ready') resolve(message.configSize);
      else if (message.kind === 'refused') reject(new StartError(message.startKind, message.message));
      else if (message.kind === 'failed') reject(new Error(message.error));
    });
    void thread.#exited.then(() => reject(new Error(`the thread of ${name} ended before it had begun`)));
    return { thread, configSize: await promise };
  }

  /** Of the latest session, all of it once that has ended. */
  get traffic(): Traffic {
    return this.#traffic;
  }

  /** A session in the thread, one at a time; one that has ended already where there is no descriptor for it. */
  serve(): SplitMember {
    this.#status = undefined;
    this.#traffic = NO_TRAFFIC;
    let pair: readonly [number, number];
    try {
      pair = socketPair();
    } catch (error) {
      if (!(error instanceof LinuxError)) throw error;
      return endedMember(`the thread of ${this.#name} cannot be reached: ${error.message}`);
    }
    const [ours, theirs] = pair;
    const worker = this.#worker ?? this.#start();
    const session: Session = {
      ended: Promise.withResolvers(),
      unclaimedFd: theirs,
      end: undefined,
      onRefusal: () => {},
    };
    this.#session = session;
    worker.postMessage({ kind: 'serve', fd: theirs } satisfies ToQueueThread);
    return {
      stream: vhostUserStream(ours),
      ended: session.ended.promise,
      status: () => this.#status,
      onRefusal: (hear) => void (session.onRefusal = hear),
    };
  }

  refresh(): void {
    this.#worker?.postMessage({ kind: 'refresh' } satisfies ToQueueThread);
  }

  /** Resolves when the thread has ended, with what was left behind. */
  async close(): Promise<string | undefined> {
    this.#worker?.postMessage({ kind: 'end' } satisfies ToQueueThread);
    await this.#exited;
    return this.#problem;
  }

  #start(): Worker {
    const { data, entry = ownEntry() } = this.#options;
    const worker = new Worker(entry, { workerData: data, name: this.#name });
    this.#worker = worker;
    this.#failure = undefined;
    this.#hasDisk = false;
    worker.on('message', (message: FromQueueThread) => this.#take(message));
    worker.on('error', (error: unknown) => {
      this.#failure ??= error instanceof Error ? (error.stack ?? error.message) : String(error);
    });
    this.#exited = new Promise((resolve) => {
      worker.once('exit', () => {
        this.#exit();
        resolve(undefined);
      });
    });
    return worker;
  }

  #take(message: FromQueueThread): void {
    switch (message.kind) {
      case 'serving':
        if (this.#session !== undefined) this.#session.unclaimedFd = undefined;
        break;
      case 'status':
        this.#status = message.status;
        this.#options.onStatus();
        break;
      case 'refusal':
        this.#session?.onRefusal(message.reason);
        break;
      case 'ended':
        this.#traffic = message.traffic;
        this.#endSession({ fault: message.fault, ...(message.error && { error: message.error }) });
        break;
      case 'report':
        this.#options.report(message.report);
        break;
      case 'refused':
        this.#failure = message.message;
        break;
      case 'failed':
        this.#failure = message.error;
        break;
      case 'ready':
        this.#hasDisk = true;
        break;
      case 'closed':
        this.#hasDisk = false;
        this.#problem ??= message.problem;
        break;
      default:
    }
  }

  /** Of a thread that has failed, a session is over when the thread is. */
  #endSession(end: VhostUserBackendEnd): void {
    const session = this.#session;
    if (session === undefined) return;
    if (this.#failure === undefined) {
      this.#session = undefined;
      session.ended.resolve(end);
    } else {
      session.end = end;
    }
  }

  #exit(): void {
    this.#worker = undefined;
    const session = this.#session;
    this.#session = undefined;
    const message = `the thread of ${this.#name} failed: ${this.#failure ?? 'it was ended from outside'}`;
    if (session?.unclaimedFd !== undefined) closeFd(session.unclaimedFd);
    session?.ended.resolve({ fault: session.end?.fault, error: message });
    if (this.#hasDisk) this.#options.onDeath(message);
  }
}

function endedMember(reason: string): SplitMember {
  return {
    stream: { send() {}, onData() {}, onClose() {}, close() {} },
    ended: Promise.resolve({ fault: undefined, error: reason }),
    status: () => undefined,
    onRefusal() {},
  };
}

function ownEntry(): URL {
  return new URL(
    import.meta.url.endsWith('.ts') ? './queue-thread.ts' : './queue-thread.js',
    import.meta.url,
  );
}
