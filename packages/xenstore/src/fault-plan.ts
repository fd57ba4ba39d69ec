/** What is to go wrong on purpose. Counts go down as faults happen; absent means never. */
export interface FaultPlan {
  /** The next so many transactions end with EAGAIN. */
  readonly eagain?: number;
  /** Every commit fails with this probability, drawn from the seeded generator. */
  readonly eagainProbability?: number;
  /** Events reach their connection this many milliseconds late, in order. */
  readonly eventDelayMs?: number;
  /** Events wait until so many are there for the connection, or until its next reply; identical ones once. */
  readonly eventBatch?: number;
  /** Every socket connection opened from now on is cut after this many bytes of output. */
  readonly disconnectAtByte?: number;
  /** These quotas count as used up, for privileged connections too. */
  readonly fullQuotas?: readonly string[];
}
