/** What the promise is rejected with, for a test that first brings it about. Throws where it is fulfilled. */
export function rejection(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => {
      throw new Error('the promise was fulfilled');
    },
    (error: unknown) => error,
  );
}
