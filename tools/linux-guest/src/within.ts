/** The promise's outcome, or a rejection with `error()` when it has none after `timeoutMs`. */
export async function within<T>(promise: Promise<T>, timeoutMs: number, error: () => Error): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(error()), timeoutMs);
  try {
    return await Promise.race([promise, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
