import { type Xenstore, type XenstoreWatch, XenstoreError } from '@virtlab/xenstore';
import { isMissing } from './state.ts';

/**
 * Reports the text of a node: what it holds now, then each change. Values are reported in the order in which they stood
 * there; one that was replaced before it could be read is left out, and none is reported twice in a row. Undefined: the
 * node is missing, not ours to read, or the connection to the store is lost. No report after disposal began.
 */
export async function followNode(
  store: Xenstore,
  path: string,
  onText: (text: string | undefined) => void,
): Promise<AsyncDisposable> {
  const follower = new NodeFollower(store, path, onText);
  await follower.start();
  return follower;
}

class NodeFollower implements AsyncDisposable {
  readonly #store: Xenstore;
  readonly #path: string;
  readonly #onText: (text: string | undefined) => void;
  #watch: XenstoreWatch | undefined;
  #last: string | undefined;
  #hasReported = false;
  #isReading = false;
  #isStale = false;
  #isClosed = false;

  constructor(store: Xenstore, path: string, onText: (text: string | undefined) => void) {
    this.#store = store;
    this.#path = path;
    this.#onText = onText;
  }

  async start(): Promise<void> {
    const watch = await this.#store.watch(this.#path, () => void this.#read());
    this.#watch = watch;
    if (this.#isClosed) await closeWatch(watch);
    void this.#store.closed.then(() => this.#report(undefined));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    if (this.#watch !== undefined) await closeWatch(this.#watch);
  }

  /** One read at a time; a change meanwhile makes it read again. */
  async #read(): Promise<void> {
    this.#isStale = true;
    if (this.#isReading) return;
    this.#isReading = true;
    try {
      while (this.#isStale && !this.#isClosed) {
        this.#isStale = false;
        this.#report(await readIfThere(this.#store, this.#path));
      }
    } finally {
      this.#isReading = false;
    }
  }

  #report(text: string | undefined): void {
    if (this.#isClosed || (this.#hasReported && text === this.#last)) return;
    this.#hasReported = true;
    this.#last = text;
    this.#onText(text);
  }
}

async function readIfThere(store: Xenstore, path: string): Promise<string | undefined> {
  try {
    return await store.readText(path);
  } catch (error) {
    if (isMissing(error) || isLost(error)) return undefined;
    throw error;
  }
}

/** Ends a watch; when the connection is gone, so is the watch. */
export async function closeWatch(watch: XenstoreWatch): Promise<void> {
  try {
    await watch.close();
  } catch (error) {
    if (!isLost(error)) throw error;
  }
}

/** The connection to the store ended. */
export function isLost(error: unknown): boolean {
  return error instanceof XenstoreError && error.code === 'EIO';
}
