import type { DriverSession } from '@virtlab/virtio';
import type { NetDriverStatistics } from './driver-contract.ts';
import type { DriverSides } from './driver-sides.ts';

/** The counters of all queues. */
export function collectStatistics(
  { receive, transmit }: DriverSides,
  { statistics: queues }: DriverSession,
): NetDriverStatistics {
  const sum = <T>(items: readonly T[], of: (item: T) => number): number =>
    items.reduce((total, item) => total + of(item), 0);
  return {
    txFrames: sum(transmit, ({ statistics }) => statistics.txFrames),
    txBytes: sum(transmit, ({ statistics }) => statistics.txBytes),
    txDropped: sum(transmit, ({ statistics }) => statistics.txDropped),
    txTimeouts: sum(transmit, ({ statistics }) => statistics.txTimeouts),
    rxFrames: sum(receive, ({ statistics }) => statistics.rxFrames),
    rxBytes: sum(receive, ({ statistics }) => statistics.rxBytes),
    rxDropped: sum(receive, ({ statistics }) => statistics.rxDropped),
    kicks: sum(queues, ({ kicks }) => kicks),
    kicksSuppressed: sum(queues, ({ kicksSuppressed }) => kicksSuppressed),
    calls: sum(queues, ({ calls }) => calls),
    polls: sum(queues, ({ polls }) => polls),
  };
}
