import type { LinuxGuest } from '@virtlab/linux-guest';
import { VHOST_F_LOG_ALL, VHOST_USER_F_PROTOCOL_FEATURES } from '@virtlab/abi/vhost-user';
import type { Daemon } from '../../backends/testing/daemon.ts';

/** What the guest's driver accepted: a digit for each bit, the lowest first (Linux: drivers/virtio/virtio.c). */
export async function guestFeatures(guest: LinuxGuest, device: string): Promise<bigint> {
  const digits = await guest.output(`cat ${device}/features`);
  return BigInt(`0b${digits.split('').toReversed().join('')}`);
}

const OF_VHOST_USER = (1n << BigInt(VHOST_F_LOG_ALL)) | (1n << BigInt(VHOST_USER_F_PROTOCOL_FEATURES));

/** What QEMU told the daemon of it last, at that socket; what is between the two of them alone is left out. */
export function daemonFeatures(daemon: Daemon, socket: string): bigint {
  const last = daemon.reports.findLast(
    (report) => report.event === 'features' && report['socket'] === socket,
  );
  if (last === undefined) throw new Error(`no features at ${socket}`);
  return BigInt(String(last['features'])) & ~OF_VHOST_USER;
}
