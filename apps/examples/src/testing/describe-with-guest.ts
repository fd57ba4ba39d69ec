import { linuxFfi } from '@virtlab/linux';
import { describeWithPeer } from '@virtlab/linux/testing';
import { guestAvailability } from '@virtlab/linux-guest';

/** Guests start in seconds, on a machine that may be busy with others. */
const TIMEOUT_MS = 120_000;

/**
 * A suite that starts Linux in QEMU. Without the Debian packages it is skipped, and its title names them; with
 * VIRTLAB_REQUIRE_PEERS=1 it fails.
 */
export function describeWithGuest(name: string, suite: () => void): void {
  const [ffi, guest] = [linuxFfi(), guestAvailability()];
  const reason = ffi.available ? (guest.status === 'missing' ? guest.reason : undefined) : ffi.reason;
  describeWithPeer(name, reason, suite, TIMEOUT_MS);
}
