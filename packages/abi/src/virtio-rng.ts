/** VIRTIO 1.4, entropy device (§5.4). It has no feature bits and no configuration. */

/** Index of its only queue (§5.4.2). */
export const VIRTIO_RNG_REQUESTQ = 0;
