export type {
  AioContext,
  AioHandler,
  AioPoller,
  AioStatistics,
  BottomHalf,
  EventNotifier,
  Timer,
} from './aio-context.ts';
export { createAioContext, createScheduler, type AioContextOptions, type Scheduler } from './portable.ts';
export { createPrng, type Prng } from './prng.ts';
