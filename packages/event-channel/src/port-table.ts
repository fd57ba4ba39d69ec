import {
  EVTCHN_FIFO_LINK_BITS,
  EVTCHN_FIFO_LINK_MASK,
  EVTCHN_FIFO_NR_CHANNELS,
} from '@virtlab/abi/event-channel';
import type { PortTableView } from './contract.ts';

/**
 * The words of a `PortTableView`. The hypervisor keeps its own state and only writes here; the owning domain only reads.
 * Ports have as many bits as the FIFO ABI gives them, so that the table serves both ABIs.
 */

/** Bytes of an entry. */
export const PORT_TABLE_ENTRY_SIZE = 8;
const ENTRY_SHIFT = 1;

/** Word 0 of a port that a send leads from: never 0, as no port is 0. */
export function sendWord(domain: number, port: number): number {
  return (domain << EVTCHN_FIFO_LINK_BITS) | port;
}

export function sendWordDomain(word: number): number {
  return word >>> EVTCHN_FIFO_LINK_BITS;
}

export function sendWordPort(word: number): number {
  return word & EVTCHN_FIFO_LINK_MASK;
}

/** Index of word 0 of a port in the 32-bit words of the table's region; word 1 follows it. */
export function portEntryIndex(table: PortTableView, port: number): number {
  return (table.offset >>> 2) + (port << ENTRY_SHIFT);
}

/** Ports of this table, port 0 included; the ABI in use may have fewer. Throws `RangeError` if the region does not hold them. */
export function usablePortCount(table: PortTableView): number {
  const { region, offset, portCount } = table;
  if (offset % PORT_TABLE_ENTRY_SIZE !== 0 || offset + portCount * PORT_TABLE_ENTRY_SIZE > region.size) {
    throw new RangeError(
      `Port table of ${portCount} ports at ${offset} does not lie in a region of ${region.size} bytes`,
    );
  }
  return Math.min(portCount, EVTCHN_FIFO_NR_CHANNELS);
}
