import { loadWordAcquire } from '@virtlab/guest-memory';
import type {
  PackedEventSnapshot,
  PackedPosition,
  PackedRingSnapshot,
  RingFeatures,
  RingViolation,
} from './contract.ts';
import {
  PACKED_FLAGS_SHIFT,
  PACKED_HIGH,
  PACKED_ID_FLAGS,
  PACKED_ID_MASK,
  PACKED_LEN,
  PACKED_LOW,
  PACKED_WORDS,
  type PackedViews,
  POSITION_SLOT_MASK,
  POSITION_WRAP_SHIFT,
} from './packed-views.ts';

const POSITION_BITS = 16;
const POSITION_MASK = 0xffff;

/** What the owner of a half knows beside the shared words. Positions are 16 bits: slot and wrap counter. */
export interface PackedSnapshotState {
  readonly side: 'driver' | 'device';
  readonly size: number;
  readonly features: RingFeatures;
  readonly shadowAvail: number;
  readonly shadowUsed: number;
  readonly inFlight: readonly number[];
  readonly violation: RingViolation | undefined;
}

/** Decodes the whole ring into plain data. Words of the other party are copied as they are, without judgement. */
export function snapshotPackedRing(ring: PackedViews, state: PackedSnapshotState): PackedRingSnapshot {
  return {
    ...snapshotPackedReleased(state),
    driverEvent: decodeEvent(loadWordAcquire(ring.driver32, ring.driverEvent)),
    deviceEvent: decodeEvent(loadWordAcquire(ring.device32, ring.deviceEvent)),
    descriptors: Array.from({ length: ring.size }, (_, slot) => snapshotDescriptor(ring, slot)),
  };
}

/** The picture of a queue whose memory was given back: only the private side is left. */
export function snapshotPackedReleased(state: PackedSnapshotState): PackedRingSnapshot {
  return {
    format: 'packed',
    side: state.side,
    size: state.size,
    features: { ...state.features },
    driverEvent: decodeEvent(0),
    deviceEvent: decodeEvent(0),
    shadowAvail: decodePosition(state.shadowAvail),
    shadowUsed: decodePosition(state.shadowUsed),
    inFlight: state.inFlight,
    violation: state.violation,
    descriptors: [],
  };
}

function decodePosition(position: number): PackedPosition {
  return { slot: position & POSITION_SLOT_MASK, wrap: (position >>> POSITION_WRAP_SHIFT) & 1 };
}

function decodeEvent(word: number): PackedEventSnapshot {
  return { ...decodePosition(word & POSITION_MASK), flags: word >>> POSITION_BITS };
}

function snapshotDescriptor(ring: PackedViews, slot: number): PackedRingSnapshot['descriptors'][number] {
  const at = ring.descBase + slot * PACKED_WORDS;
  const word = loadWordAcquire(ring.desc32, at + PACKED_ID_FLAGS);
  const high = BigInt(ring.desc32[at + PACKED_HIGH]! >>> 0);
  return {
    address: (high << 32n) | BigInt(ring.desc32[at + PACKED_LOW]! >>> 0),
    size: ring.desc32[at + PACKED_LEN]! >>> 0,
    id: word & PACKED_ID_MASK,
    flags: word >>> PACKED_FLAGS_SHIFT,
  };
}
