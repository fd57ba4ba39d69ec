import { describe } from 'vitest';
import { linuxFfi } from '../ffi.ts';

/**
 * A suite that makes kernel calls. Without the FFI it is skipped, and its title says why; with
 * VIRTLAB_REQUIRE_PEERS=1 it runs, and so fails.
 */
export function describeWithFfi(name: string, suite: () => void): void {
  const ffi = linuxFfi();
  const runs = ffi.available || process.env['VIRTLAB_REQUIRE_PEERS'] === '1';
  const reason = ffi.available ? '' : ` (no FFI: ${ffi.reason})`;
  describe(`${name}${reason}`, { skip: !runs }, () => {
    suite();
  });
}
