/**
 * The promise's outcome, or the signal's reason as soon as it aborts. What was begun goes on; its outcome is then
 * dropped.
 */
export function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason as Error);
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
    const settle = <A>(how: (value: A) => void): ((value: A) => void) => {
      return (value) => {
        signal.removeEventListener('abort', onAbort);
        how(value);
      };
    };
    promise.then(settle(resolve), settle(reject));
  });
}

/** Resolves after the time; rejects with the signal's reason if it aborts before. */
export function pause(delayMs: number, signal: AbortSignal | undefined): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const elapsed = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, delayMs);
  });
  return unlessAborted(elapsed, signal).finally(() => clearTimeout(timer));
}
