import { loadIndexAcquire } from '@virtlab/guest-memory';
import type { RingFeatures, RingViolation, SplitRingSnapshot } from './contract.ts';
import {
  DESC_ADDR_HIGH,
  DESC_ADDR_LOW,
  DESC_FLAGS_NEXT,
  DESC_LEN,
  DESC_NEXT_SHIFT,
  DESC_WORDS,
  type RingViews,
  USED_ELEM_ID,
  USED_ELEM_LEN,
  USED_ELEM_WORDS,
} from './ring-views.ts';

/** What the owner of a half knows beside the shared words. */
export interface RingSnapshotState {
  readonly side: 'driver' | 'device';
  readonly features: RingFeatures;
  readonly shadowAvailIdx: number;
  readonly shadowUsedIdx: number;
  readonly inFlight: readonly number[];
  readonly violation: RingViolation | undefined;
}

/** Decodes the whole ring into plain data. Words of the other party are copied as they are, without judgement. */
export function snapshotRing(ring: RingViews, state: RingSnapshotState): SplitRingSnapshot {
  const { size, avail16, used16, used32 } = ring;
  const entries = Array.from({ length: size }, (_, index) => index);
  return {
    format: 'split',
    side: state.side,
    size,
    features: { ...state.features },
    availIdx: loadIndexAcquire(avail16, ring.availIdx),
    availFlags: loadIndexAcquire(avail16, ring.availFlags),
    usedIdx: loadIndexAcquire(used16, ring.usedIdx),
    usedFlags: loadIndexAcquire(used16, ring.usedFlags),
    usedEvent: loadIndexAcquire(avail16, ring.usedEvent),
    availEvent: loadIndexAcquire(used16, ring.availEvent),
    shadowAvailIdx: state.shadowAvailIdx,
    shadowUsedIdx: state.shadowUsedIdx,
    inFlight: state.inFlight,
    violation: state.violation,
    descriptors: entries.map((index) => snapshotDescriptor(ring, index)),
    available: entries.map((index) => avail16[ring.availRing + index]!),
    used: entries.map((index) => {
      const at = ring.usedRing + index * USED_ELEM_WORDS;
      return { id: used32[at + USED_ELEM_ID]!, size: used32[at + USED_ELEM_LEN]! };
    }),
  };
}

/** The picture of a queue whose memory was given back: only the private side is left. */
export function snapshotReleased(size: number, state: RingSnapshotState): SplitRingSnapshot {
  return {
    format: 'split',
    side: state.side,
    size,
    features: { ...state.features },
    availIdx: 0,
    availFlags: 0,
    usedIdx: 0,
    usedFlags: 0,
    usedEvent: 0,
    availEvent: 0,
    shadowAvailIdx: state.shadowAvailIdx,
    shadowUsedIdx: state.shadowUsedIdx,
    inFlight: state.inFlight,
    violation: state.violation,
    descriptors: [],
    available: [],
    used: [],
  };
}

function snapshotDescriptor(ring: RingViews, index: number): SplitRingSnapshot['descriptors'][number] {
  const at = ring.descBase + index * DESC_WORDS;
  const flagsNext = ring.desc32[at + DESC_FLAGS_NEXT]!;
  const high = BigInt(ring.desc32[at + DESC_ADDR_HIGH]!);
  return {
    address: (high << 32n) | BigInt(ring.desc32[at + DESC_ADDR_LOW]!),
    size: ring.desc32[at + DESC_LEN]!,
    flags: flagsNext & 0xffff,
    next: flagsNext >>> DESC_NEXT_SHIFT,
  };
}
