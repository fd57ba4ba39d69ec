import type { Divergences } from '@virtlab/virtio/conformance';

/** Where QEMU 7.2's virtio core does something else than VIRTIO 1.4 asks of a device. */
export const QEMU_DIVERGENCES: Divergences = {
  '§2.2.2 FEATURES_OK stays clear for bits': 'masks what it did not offer, and sets FEATURES_OK',
  '§2.2.2 FEATURES_OK stays clear for a set without': 'a driver without VERSION_1 is taken for a legacy one',
  '§2.1.2 an indirect table that was not negotiated': 'follows indirect tables, negotiated or not',
  '§2.1.2 memory that was not lent': 'the bus of a PC swallows what goes nowhere, and the request is done',
  '§2.1.2 a buffer that wraps the address space': 'likewise',
};
