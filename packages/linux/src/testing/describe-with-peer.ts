import { describe } from 'vitest';

/**
 * A suite that needs a peer from outside. Where `missing` says what is not there, the suite is skipped and its title says so; with
 * VIRTLAB_REQUIRE_PEERS=1 it fails instead. `timeoutMs` holds for each of its tests.
 */
export function describeWithPeer(
  name: string,
  missing: string | undefined,
  suite: () => void,
  timeoutMs?: number,
): void {
  if (missing !== undefined && process.env['VIRTLAB_REQUIRE_PEERS'] === '1') throw new Error(missing);
  const title = missing === undefined ? name : `${name} (${missing})`;
  describe(
    title,
    { skip: missing !== undefined, ...(timeoutMs !== undefined && { timeout: timeoutMs }) },
    () => {
      suite();
    },
  );
}
