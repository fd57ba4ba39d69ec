import { describeWithPeer } from '@virtlab/linux/testing';
import { testpmdUnavailable } from '../testpmd-unavailable.ts';

/** It polls, and shares the CPUs with whatever else is tested. */
const TIMEOUT_MS = 60_000;

/**
 * A suite that needs testpmd. Without it the suite is skipped, and its title names the packages; with VIRTLAB_REQUIRE_PEERS=1
 * it fails.
 */
export function describeWithTestpmd(name: string, suite: () => void): void {
  const reason = testpmdUnavailable();
  describeWithPeer(name, reason, suite, TIMEOUT_MS);
}
