/** Time as the daemon sees it: injected, so that tests decide when it passes. */
export interface DaemonClock {
  /** Milliseconds since 1970, for log lines and differences. */
  now(): number;
  /** Runs a function once, that many milliseconds from now; the result calls it off. */
  after(delayMs: number, run: () => void): () => void;
}

/** The machine's clock. What still waits does not keep a process alive. */
export const SYSTEM_CLOCK: DaemonClock = {
  now: () => Date.now(),
  after: (delayMs, run) => {
    const timer = setTimeout(run, delayMs);
    timer.unref?.();
    return () => clearTimeout(timer);
  },
};
