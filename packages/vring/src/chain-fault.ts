import { VRING_DESC } from '@virtlab/abi/virtio-ring';
import type { DmaStatus } from '@virtlab/guest-memory';
import type { RingViolation } from './contract.ts';
import {
  CHAIN_OUT_OF_ORDER,
  CHAIN_SIZE_MAX,
  CHAIN_TOO_LARGE,
  type ChainFault,
  type RingChain,
} from './device-chain.ts';
import { faultText, hex, hexAddress, violation } from './violation.ts';

/** Where the specification forbids what a chain of one ring format may not be. */
export interface ChainSections {
  /** Device-readable after device-writable. */
  readonly order: string;
  /** Total length. */
  readonly size: string;
  /** Address and length of a buffer. */
  readonly buffer: string;
  /** Address and length of an indirect table. */
  readonly table: string;
  /** Entries of an indirect table. */
  readonly tableLength: string;
}

/** What `chain.append` answered, as a violation. `name` says which descriptor holds the buffer. */
export function bufferViolation(
  sections: ChainSections,
  chain: RingChain,
  fault: DmaStatus | ChainFault,
  name: string,
  low: number,
  high: number,
  size: number,
): RingViolation {
  if (fault === CHAIN_OUT_OF_ORDER) {
    return violation(sections.order, `${name} is device-readable after a device-writable one`);
  }
  if (fault === CHAIN_TOO_LARGE) {
    const total = hex(chain.readableSize + chain.writableSize + size);
    const message = `The chain has ${total} bytes up to ${name}, over ${hex(CHAIN_SIZE_MAX)}`;
    return violation(sections.size, message);
  }
  const where = `${hexAddress(low, high)}, ${hex(size)} bytes, of ${name}`;
  return violation(sections.buffer, `Buffer at ${where} ${faultText(fault)}`);
}

const ENTRY_SIZE = VRING_DESC.size;

/** Whether an indirect table may be `size` bytes long. */
export function isTableSize(size: number, queueSize: number): boolean {
  return size !== 0 && size % ENTRY_SIZE === 0 && size / ENTRY_SIZE <= queueSize;
}

/** Why it may not. */
export function tableSizeViolation(
  sections: ChainSections,
  name: string,
  size: number,
  queueSize: number,
): RingViolation {
  const what = `${name} has an indirect table of ${hex(size)} bytes`;
  return size === 0 || size % ENTRY_SIZE !== 0
    ? violation(sections.table, `${what}, which is not a multiple of ${hex(ENTRY_SIZE)} above 0`)
    : violation(sections.tableLength, `${what}, more than the queue size of ${hex(queueSize)} entries`);
}

/** An indirect table that cannot be read. */
export function tableViolation(
  sections: ChainSections,
  fault: DmaStatus,
  name: string,
  low: number,
  high: number,
  size: number,
): RingViolation {
  const where = `Indirect table at ${hexAddress(low, high)}, ${hex(size)} bytes, of ${name}`;
  return violation(sections.table, `${where} ${faultText(fault)}`);
}
