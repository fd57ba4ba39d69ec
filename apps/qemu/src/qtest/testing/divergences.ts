import type { Divergences } from '@virtlab/virtio/conformance';

/** Where QEMU 7.2's virtio core does something else than VIRTIO 1.4 asks of a device. */
export const QEMU_DIVERGENCES: Divergences = {
  '§2.2.2 FEATURES_OK stays clear for bits': 'masks what it did not offer, and sets FEATURES_OK',
  '§2.2.2 FEATURES_OK stays clear for a set without': 'a driver without VERSION_1 is taken for a legacy one',
  '§2.1.2 an indirect table that was not negotiated': 'follows indirect tables, negotiated or not',
  '§2.1.2 memory that was not lent': 'the bus of a PC swallows what goes nowhere, and the request is done',
  '§2.1.2 a buffer that wraps the address space': 'likewise',
};

const NO_NEEDS_RESET = 'QEMU has no way to hear of it from a vhost-user device';

/** Of devices behind its vhost-user cards: the status is QEMU's own, and ring errors go to an eventfd that it only logs. */
export const QEMU_VHOST_USER_DIVERGENCES: Divergences = {
  ...QEMU_DIVERGENCES,
  '§2.1.2 an available index more than': NO_NEEDS_RESET,
  '§2.1.2 a head beyond': NO_NEEDS_RESET,
  '§2.1.2 a next beyond': NO_NEEDS_RESET,
  '§2.1.2 a descriptor that follows': NO_NEEDS_RESET,
  '§2.1.2 a readable buffer after': NO_NEEDS_RESET,
};
