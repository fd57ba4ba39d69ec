type Operation = 'load' | 'store' | 'compareExchange' | 'or' | 'and';
const OPERATIONS: readonly Operation[] = ['load', 'store', 'compareExchange', 'or', 'and'];

/**
 * Runs `body` while another party acts right before each of its atomic operations, as if it ran on another CPU or this one were
 * preempted there. What `act` itself does atomically is not interfered with. Answers how many operations there were.
 */
export function interfere(act: (operation: Operation, count: number) => void, body: () => void): number {
  const atomics = Atomics as unknown as Record<Operation, (...args: readonly unknown[]) => number>;
  const real = Object.fromEntries(OPERATIONS.map((name) => [name, atomics[name]])) as typeof atomics;
  let count = 0;
  let isActing = false;
  for (const name of OPERATIONS) {
    atomics[name] = (...args) => {
      if (!isActing) {
        isActing = true;
        try {
          act(name, count);
        } finally {
          isActing = false;
        }
        count += 1;
      }
      return real[name].apply(Atomics, args as never);
    };
  }
  try {
    body();
  } finally {
    Object.assign(atomics, real);
  }
  return count;
}
