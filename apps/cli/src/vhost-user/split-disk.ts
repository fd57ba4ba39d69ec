import type { UnixStream } from '@virtlab/linux';
import { type VhostUserBackend, splitVhostUser } from '@virtlab/vhost-user';
import { ConnectionReport } from './connection-report.ts';
import { type BlkPlan, type DaemonPlan, type Place, placeName } from './daemon-plan.ts';
import { sumOf } from './host-reports.ts';
import { openDisk, sharedContents } from './open-disk.ts';
import { openPlace } from './open-place.ts';
import { QueueThread, type QueueThreadOptions } from './queue-threads.ts';
import type { Report } from './report.ts';
import type { Service } from './service.ts';

export interface SplitDiskOptions {
  readonly place: Place;
  readonly pollNs: DaemonPlan['pollNs'];
  readonly loop: DaemonPlan['loop'];
  readonly report: (report: Report) => void;
  readonly onLast?: () => void;
  /** A thread took what it had with it: nothing is sure any more. */
  readonly onDeath: (message: string) => void;
  /** What queue threads run; for tests. */
  readonly entry?: QueueThreadOptions['entry'];
}

/**
 * Serves a disk whose queues are spread over threads; this one has the connection and the lock of the image, and no data.
 * Rejects with `StartError` for an image that cannot be used.
 */
export async function serveSplitDisk(plan: BlkPlan, options: SplitDiskOptions): Promise<Service> {
  const disk = new SplitDisk(plan, options);
  try {
    await disk.open();
  } catch (error) {
    await disk.close();
    throw error;
  }
  return disk;
}

class SplitDisk implements Service {
  readonly #plan: BlkPlan;
  readonly #options: SplitDiskOptions;
  /** Each says what it left behind. */
  readonly #ends: (() => Promise<string | undefined>)[] = [];
  /** Of the image, open and locked: every thread serves that file, also one that starts later. */
  #imageFd: number | undefined;
  #threads: readonly QueueThread[] = [];
  #configSize = 0;
  #look: () => void = () => {};

  constructor(plan: BlkPlan, options: SplitDiskOptions) {
    this.#plan = plan;
    this.#options = options;
  }

  async open(): Promise<void> {
    const { place, onLast } = this.#options;
    const contents = await sharedContents(this.#plan);
    if (this.#plan.backend === 'raw') {
      const held = await openDisk(this.#plan, { warn: () => {} });
      this.#imageFd = held.fd;
      this.#ends.push(async () => {
        await held.close();
        return undefined;
      });
    }
    const { threadCount } = this.#plan;
    const starts = Array.from({ length: threadCount }, (_, index) => this.#startThread(index, contents));
    // All of them, so that none is still to come when one could not.
    await Promise.allSettled(starts);
    const started = await Promise.all(starts);
    this.#threads = started.map(({ thread }) => thread);
    this.#configSize = started[0]!.configSize;
    const close = openPlace(place, (stream) => this.#serve(stream), onLast);
    this.#ends.push(async () => {
      await close();
      return undefined;
    });
  }

  refresh(): void {
    for (const thread of this.#threads) thread.refresh();
  }

  async close(): Promise<void> {
    const problems: string[] = [];
    for (const end of this.#ends.splice(0).toReversed()) {
      const problem = await end();
      if (problem !== undefined) problems.push(problem);
    }
    if (problems.length > 0) throw new Error(problems.join('\n'));
  }

  async #startThread(index: number, contents: Uint8Array | undefined): ReturnType<typeof QueueThread.start> {
    const { place, pollNs, loop, report, onDeath, entry } = this.#options;
    const { queueCount, threadCount } = this.#plan;
    const queues = Array.from({ length: queueCount }, (_, queue) => queue);
    const own = queues.filter((queue) => queue % threadCount === index);
    const started = await QueueThread.start(`queue ${own.join(', ')}`, {
      data: {
        plan: this.#plan,
        isFirst: index === 0,
        name: placeName(place),
        pollNs,
        loop,
        contents,
        imageFd: this.#imageFd,
      },
      report,
      onStatus: () => this.#look(),
      onDeath,
      ...(entry === undefined ? {} : { entry }),
    });
    this.#ends.push(async () => await started.thread.close());
    return started;
  }

  #serve(stream: UnixStream): VhostUserBackend {
    const connection = new ConnectionReport(placeName(this.#options.place), this.#options.report);
    const backend = splitVhostUser(stream, {
      members: this.#threads.map((thread) => thread.serve()),
      queueCount: this.#plan.queueCount,
      configSize: this.#configSize,
      onRefusal: (reason) => connection.refuse(reason),
    });
    this.#look = () => connection.look(backend);
    void backend.ended.then((end) => {
      this.#look = () => {};
      connection.end(end, sumOf(this.#threads.map(({ traffic }) => traffic)));
    });
    return backend;
  }
}
