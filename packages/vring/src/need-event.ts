/**
 * Whether an index that moved from `oldIdx` to `newIdx` crossed `event + 1`: the word `event` names the entry whose
 * arrival is worth a doorbell (VIRTIO §2.7.7.2, §2.7.10.1; `vring_need_event` in linux/virtio_ring.h). All three are
 * free-running 16-bit indices; the window may be at most 65535 entries wide.
 */
export function vringNeedEvent(event: number, newIdx: number, oldIdx: number): boolean {
  return ((newIdx - event - 1) & 0xffff) < ((newIdx - oldIdx) & 0xffff);
}
