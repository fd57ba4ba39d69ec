import type { NodeAioContext } from '@virtlab/aio/node';
import { EndError } from './service.ts';

export interface ThreadService {
  /** Ends connections and gives everything back. */
  close(): Promise<void>;
}

/** What a thread opens, and that it is closed again, once, whenever the end comes: also while it is being opened. */
export class ThreadLife<Served extends ThreadService> {
  /** The loop of the thread, as soon as there is one; disposed of in the end. */
  context: NodeAioContext | undefined;
  readonly #onClosed: (problem: string | undefined) => void;
  #start: Promise<Served> | undefined;
  #service: Served | undefined;
  #isEnding = false;

  /** `onClosed` is told what went wrong, or is still there, when all is over. */
  constructor(onClosed: (problem: string | undefined) => void) {
    this.#onClosed = onClosed;
  }

  get service(): Served | undefined {
    return this.#service;
  }
  get isEnding(): boolean {
    return this.#isEnding;
  }

  /** Called once. Rejects as `start` does; what had been opened by then is that one's to close. */
  async begin(start: () => Promise<Served>): Promise<Served> {
    this.#start = start();
    this.#service = await this.#start;
    return this.#service;
  }

  /** Waits for what has begun to open, and closes it. Idempotent. */
  async end(problem: string | undefined): Promise<void> {
    if (this.#isEnding) return;
    this.#isEnding = true;
    let trouble = problem;
    try {
      const service = await this.#start?.catch(() => undefined);
      await service?.close();
      const leaks = this.context?.leaks() ?? [];
      if (leaks.length > 0) trouble ??= `still there in the end: ${leaks.join(', ')}`;
    } catch (error) {
      trouble ??= textOf(error);
    }
    this.context?.[Symbol.dispose]();
    this.#onClosed(trouble);
  }
}

export function textOf(error: unknown): string {
  if (error instanceof EndError) return error.message;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
