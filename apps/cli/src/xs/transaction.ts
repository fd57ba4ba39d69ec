import type { XenstoreAccess } from '@virtlab/xenstore';
import { type XenstoreClient, XenstoreError } from '@virtlab/xenstore/node/client';
import { XsFailure } from './session.ts';

/** Collects what a command prints: a transaction that is made again prints once. */
export class Output {
  #parts: (string | Uint8Array)[] = [];

  add(part: string | Uint8Array): void {
    this.#parts.push(part);
  }

  reset(): void {
    this.#parts = [];
  }

  flush(): void {
    for (const part of this.#parts) process.stdout.write(part);
    this.reset();
  }
}

/**
 * Runs `body` in a transaction, again after a conflict; or directly, if that is what xenstore-utils do. What `body`
 * adds to `output` is printed in the end, also when it fails: then the transaction is abandoned.
 */
export async function inTransaction(
  store: XenstoreClient,
  isNeeded: boolean,
  body: (access: XenstoreAccess, output: Output) => Promise<void>,
): Promise<void> {
  const output = new Output();
  try {
    if (!isNeeded) await body(store, output);
    else {
      await store.transaction((access) => {
        output.reset();
        return body(access, output);
      });
    }
  } catch (error) {
    if (error instanceof XenstoreError && error.op.startsWith('TRANSACTION_')) {
      output.reset();
      const what = error.op === 'TRANSACTION_START' ? 'start' : 'end';
      throw new XsFailure(`couldn't ${what} transaction`, error);
    }
    throw error;
  } finally {
    output.flush();
  }
}
