import { vi } from 'vitest';
import { linuxFfi } from '@virtlab/linux';
import { describeWithPeer } from '@virtlab/linux/testing';
import { qemuUnavailable } from '../qemu-process.ts';

/** Programs are started, on a machine that may be busy with others. */
const TIMEOUT_MS = 90_000;

/**
 * A suite that needs QEMU. Without it the suite is skipped, and its title names the package; with VIRTLAB_REQUIRE_PEERS=1 it
 * fails.
 */
export function describeWithQemu(name: string, suite: () => void): void {
  vi.setConfig({ testTimeout: TIMEOUT_MS, hookTimeout: TIMEOUT_MS });
  const ffi = linuxFfi();
  const reason = ffi.available ? qemuUnavailable() : ffi.reason;
  describeWithPeer(name, reason, suite);
}
