import type { AioContext } from '@virtlab/aio';

/** Lets the others run for so long. */
export async function pause(aio: AioContext, pauseMs: number): Promise<void> {
  const over = Promise.withResolvers<void>();
  using timer = aio.createTimer(() => over.resolve());
  timer.arm(pauseMs);
  await over.promise;
}
