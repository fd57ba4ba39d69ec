import { spawnSync } from 'node:child_process';
import { vi } from 'vitest';
import { linuxFfi } from '@virtlab/linux';
import { describeWithPeer } from '@virtlab/linux/testing';
import { guestAvailability } from '@virtlab/linux-guest';

/** Guests are started, on a machine that may be busy with others. */
const TIMEOUT_MS = 240_000;

/**
 * A suite that starts Linux in QEMU. Without the Debian packages it is skipped, and its title names them; with
 * VIRTLAB_REQUIRE_PEERS=1 it fails.
 */
export function describeGuests(name: string, suite: () => void): void {
  vi.setConfig({ testTimeout: TIMEOUT_MS, hookTimeout: TIMEOUT_MS });
  const reason = missing();
  if (reason !== undefined) console.warn(`skipped: ${reason}`);
  describeWithPeer(name, reason, suite);
}

function missing(): string | undefined {
  const ffi = linuxFfi();
  if (!ffi.available) return ffi.reason;
  const guest = guestAvailability();
  if (guest.status === 'missing') return guest.reason;
  // Essential in Debian; what sends files through networks is written in it.
  const hasPerl = spawnSync('perl', ['-e', '1']).error === undefined;
  return hasPerl ? undefined : 'needs the Debian package perl-base';
}
