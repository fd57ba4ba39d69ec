import { describe, vi } from 'vitest';
import { guestAvailability } from '../availability.ts';

const availability = guestAvailability();
const isSkipped = availability.status === 'missing' && process.env['VIRTLAB_REQUIRE_PEERS'] !== '1';
if (isSkipped) console.warn(`skipped: ${availability.reason}`);

/** Each test waits for guests, on a machine that may be busy with others. */
const TIMEOUT_MS = 180_000;

/** Tests that start guests; without the Debian packages they are skipped, or fail with VIRTLAB_REQUIRE_PEERS=1. */
export function describeGuests(name: string, tests: () => void): void {
  vi.setConfig({ testTimeout: TIMEOUT_MS });
  describe.skipIf(isSkipped)(name, () => {
    tests();
  });
}
