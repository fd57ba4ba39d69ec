/** §5.2.4, struct virtio_blk_geometry: what old software wants to hear. */
export interface BlkGeometry {
  readonly cylinders: number;
  readonly heads: number;
  readonly sectors: number;
}

/** §5.2.4, struct virtio_blk_topology: hints, in units of the block size. */
export interface BlkTopology {
  /** log2 of the blocks in a physical block, and the first block that is aligned to one. */
  readonly physicalBlockExp: number;
  readonly alignmentOffset: number;
  /** Blocks; 0: no hint. */
  readonly minIoSize: number;
  readonly optIoSize: number;
}
