import { existsSync, globSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { linuxFfi } from '@virtlab/linux';
import { TESTPMD_COMMAND } from './testpmd.ts';

/** Debian's, of DPDK 22.11. */
export const TESTPMD_PACKAGES = 'dpdk-dev librte-net-vhost23 librte-net-virtio23 librte-mempool-ring23';

/** Where EAL looks for drivers. */
const DRIVER_FOLDER = '/usr/lib/*/dpdk/pmds-*';
const DRIVERS: readonly string[] = ['librte_net_vhost.so', 'librte_net_virtio.so', 'librte_mempool_ring.so'];

/** Why testpmd cannot be started here, with what is to be installed; undefined if it can. */
export function testpmdUnavailable(): string | undefined {
  const ffi = linuxFfi();
  if (!ffi.available) return ffi.reason;
  const folders = (process.env['PATH'] ?? '').split(delimiter);
  const missing = DRIVERS.filter((name) => globSync(join(DRIVER_FOLDER, `${name}*`)).length === 0);
  if (!folders.some((folder) => existsSync(join(folder, TESTPMD_COMMAND)))) missing.push(TESTPMD_COMMAND);
  if (missing.length === 0) return undefined;
  return `${missing.join(', ')} missing: Debian packages ${TESTPMD_PACKAGES}`;
}
