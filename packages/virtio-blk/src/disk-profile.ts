import type { DriverSession } from '@virtlab/virtio';
import { type DiskProfile, parseDiskProfile } from './driver-config.ts';
import { configSizeFor } from './protocol.ts';

/** What the device says of itself. Rejects as `readConfig` of the session, or with `BlkError` `EPROTO` if it makes no sense. */
export async function readDiskProfile(session: DriverSession): Promise<DiskProfile> {
  const { features } = session;
  const config = await session.readConfig(0, configSizeFor(features));
  return parseDiskProfile(config, features, session.link.transport.queueCount);
}

/**
 * Reads the configuration again whenever the device says that it changed, since a disk may grow or shrink (§5.2.6.1), and checks
 * it as at the start. A change while it is being read is read once more; what makes no sense is passed over, and a device that
 * cannot be read is the session's to report. Takes the session's handler of configuration changes.
 */
export function followDiskProfile(session: DriverSession, onProfile: (profile: DiskProfile) => void): void {
  let isReading = false;
  let isStale = false;

  const readWhileStale = async (): Promise<void> => {
    isReading = true;
    while (isStale) {
      isStale = false;
      try {
        onProfile(await readDiskProfile(session));
      } catch {
        // The profile that was known stands.
      }
    }
    isReading = false;
  };

  session.onConfigChange(() => {
    isStale = true;
    if (!isReading) void readWhileStale();
  });
}
