import type { AioContext } from '../aio-context.ts';

export interface AioCapabilities {
  /**
   * A set is seen at once by `testAndClear` and runs the handler exactly once; else it may be late and
   * repeated.
   */
  readonly exactNotifiers: boolean;
}

/** What the tests of a case stand on; `context` is fresh for each test. */
export interface AioWorld {
  readonly context: AioContext;
  readonly create: () => AioContext;
  readonly run: (context: AioContext, done: () => boolean) => Promise<void>;
  /** Runs some turns more: what was under way has happened then, or never will. */
  readonly settle: () => Promise<void>;
  readonly capabilities: AioCapabilities;
}
