import { VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK } from '@virtlab/abi/virtio-blk';

/** Starts making all earlier writes durable and reports once it is so, or why not. Never reports synchronously. */
export type SyncFile = (done: (error: Error | null) => void) => void;

/**
 * Group commit. Flushes wait while a sync runs, because it may have begun before the writes that they must cover, and
 * then share the next one. Those of one batch share theirs too: a sync starts at `submit`.
 *
 * After a failed sync every later flush fails as well. The kernel may have dropped the pages that it could not
 * write and would report success the next time, for data that is lost.
 */
export class GroupFlush {
  readonly #sync: SyncFile;
  readonly #ended: (token: number, status: number) => void;
  readonly #onError: (error: Error) => void;
  /** Tokens that the running sync answers, and those for the next one; the arrays take turns. */
  #served: number[] = [];
  #waiting: number[] = [];
  #isRunning = false;
  #hasFailed = false;
  #idle: PromiseWithResolvers<void> | undefined;
  #flushCount = 0;
  #syncCount = 0;

  constructor(
    sync: SyncFile,
    ended: (token: number, status: number) => void,
    onError: (error: Error) => void,
  ) {
    this.#sync = sync;
    this.#ended = ended;
    this.#onError = onError;
  }

  get flushCount(): number {
    return this.#flushCount;
  }

  get syncCount(): number {
    return this.#syncCount;
  }

  /** False when a sync failed before: nothing can be promised any more. */
  add(token: number): boolean {
    this.#flushCount += 1;
    if (this.#hasFailed) return false;
    this.#waiting.push(token);
    return true;
  }

  submit(): void {
    if (this.#isRunning || this.#waiting.length === 0) return;
    const next = this.#waiting;
    this.#waiting = this.#served;
    this.#served = next;
    this.#isRunning = true;
    this.#syncCount += 1;
    this.#sync(this.#onDone);
  }

  /** Resolves when nothing waits. What was added must have been submitted. */
  async drain(): Promise<void> {
    if (!this.#isRunning) return;
    this.#idle ??= Promise.withResolvers<void>();
    await this.#idle.promise;
  }

  readonly #onDone = (error: Error | null): void => {
    const served = this.#served;
    if (error !== null && error !== undefined) {
      this.#hasFailed = true;
      this.#onError(error);
    }
    const status = this.#hasFailed ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK;
    for (const token of served) this.#ended(token, status);
    served.length = 0;
    if (this.#hasFailed) this.#failWaiting();
    this.#isRunning = false;
    this.submit();
    if (this.#isRunning) return;
    this.#idle?.resolve();
    this.#idle = undefined;
  };

  #failWaiting(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const token of waiting) this.#ended(token, VIRTIO_BLK_S_IOERR);
  }
}
