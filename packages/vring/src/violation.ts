import {
  DMA_FAULT_ADDRESS,
  DMA_FAULT_GRANT,
  DMA_FAULT_LIMIT,
  DMA_FAULT_READONLY,
  DMA_OK,
  type DmaStatus,
} from '@virtlab/guest-memory';
import type { RingViolation } from './contract.ts';

export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}

/** A device address from its two unsigned words, for messages; never on the data path. */
export function hexAddress(low: number, high: number): string {
  return hex((BigInt(high >>> 0) << 32n) | BigInt(low >>> 0));
}

export function violation(section: string, message: string): RingViolation {
  return { section, message };
}

/** What a failed mapping means, as the end of a sentence. */
export function faultText(status: DmaStatus): string {
  switch (status) {
    case DMA_FAULT_ADDRESS:
      return 'is not wholly inside memory that the driver may lend';
    case DMA_FAULT_GRANT:
      return 'is not a usable grant';
    case DMA_FAULT_READONLY:
      return 'is granted read-only and would be written';
    case DMA_FAULT_LIMIT:
      return 'needs more mapped segments than the device may hold';
    case DMA_OK:
      return 'is mapped';
  }
}
