import { describeStatus } from '@virtlab/virtio';
import type { VhostUserBackendStatus, VringStatus } from './serve.ts';
import { memberOf } from './split-options.ts';

const NAMES: readonly string[] = describeStatus(0xff).split('|');
const NO_NAMES = describeStatus(0);
const UNUSED: VringStatus = {
  size: 0,
  isStarted: false,
  isEnabled: false,
  isRunning: false,
  statistics: { requests: 0, kicks: 0, polls: 0, calls: 0, callsSuppressed: 0 },
};

/** One device of what its sessions say: a queue as its own has it, and a status bit that any of them has. */
export function combinedStatus(
  statuses: readonly (VhostUserBackendStatus | undefined)[],
  queueCount: number,
): VhostUserBackendStatus {
  const first = statuses[0];
  const set = new Set(statuses.flatMap((each) => each?.status.split('|') ?? []));
  const names = NAMES.filter((name) => set.has(name));
  return {
    features: first?.features ?? 0n,
    protocolFeatures: first?.protocolFeatures ?? [],
    status: names.length === 0 ? NO_NAMES : names.join('|'),
    regionCount: first?.regionCount ?? 0,
    isLogging: first?.isLogging ?? false,
    vrings: Array.from({ length: queueCount }, (_, queue) => {
      return statuses[memberOf(queue, statuses.length)]?.vrings[queue] ?? UNUSED;
    }),
  };
}
