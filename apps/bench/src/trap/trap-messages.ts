/** What the guest of the trap benchmark is asked; it answers with nanoseconds. */
export type TrapRequest =
  /** Reads a register of configuration space so many times. */
  | { readonly op: 'config'; readonly count: number }
  /** Reads a register of the device in memory space. */
  | { readonly op: 'register'; readonly count: number }
  /** Kicks a queue, by a trapped write or by a doorbell. */
  | { readonly op: 'kick'; readonly isTrapped: boolean; readonly count: number }
  /** Answers how often the domain's loop was woken by a system call; domain 0 is asked it as well. */
  | { readonly op: 'wakeUps' };
