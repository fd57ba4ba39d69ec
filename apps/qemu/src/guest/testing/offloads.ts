import type { QemuProperties } from '@virtlab/linux-guest';

/** A card that leaves nothing to others. QEMU keeps what depends on checksums when only these are off, and Linux takes it. */
export const NO_OFFLOADS: QemuProperties = {
  csum: false,
  host_tso4: false,
  host_tso6: false,
  host_ufo: false,
  host_ecn: false,
  guest_csum: false,
  guest_tso4: false,
  guest_tso6: false,
  guest_ufo: false,
  guest_ecn: false,
};
