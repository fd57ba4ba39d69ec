/**
 * Whether an index that moved from `oldIdx` to `newIdx` crossed `event + 1`: the word `event` names the entry whose
 * arrival is worth a doorbell (VIRTIO §2.7.7.2, §2.7.10.1; `vring_need_event` in linux/virtio_ring.h). All three are
 * free-running 16-bit indices; the window may be at most 65535 entries wide.
 */
export function vringNeedEvent(event: number, newIdx: number, oldIdx: number): boolean {
  return ((newIdx - event - 1) & 0xffff) < ((newIdx - oldIdx) & 0xffff);
}

/**
 * The same for a packed ring of `size` slots (VIRTIO §2.8.10): whether the `count` slots before slot `slot` of the lap
 * `wrap` contain slot `event` of the lap `eventWrap`. True also for an event outside the ring, which no slot ever
 * crosses, and for more than a lap of slots.
 */
export function packedNeedEvent(
  event: number,
  eventWrap: number,
  slot: number,
  wrap: number,
  count: number,
  size: number,
): boolean {
  if (event >= size || count > size) return true;
  const behind = slot - event - 1 + (eventWrap === wrap ? 0 : size);
  return behind >= 0 && behind < count;
}
