import type { AioContext } from '@virtlab/aio';
import { TransportError } from './contract.ts';

/**
 * `operation`, or a rejection with `ETIMEDOUT` after `timeoutMs` of the context's clock. The operation is not
 * cancelled; what it does later is ignored.
 */
export async function withDeadline<T>(
  aio: AioContext,
  timeoutMs: number,
  what: string,
  operation: Promise<T>,
): Promise<T> {
  const expired = Promise.withResolvers<never>();
  using timer = aio.createTimer(() => {
    expired.reject(new TransportError('ETIMEDOUT', `${what} did not finish within ${timeoutMs} ms`));
  });
  timer.arm(timeoutMs);
  return await Promise.race([operation, expired.promise]);
}
