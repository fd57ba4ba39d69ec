/** Requests that testpmd's `icmpecho` answers (RFC 826, RFC 792). */
import { ETHERNET_HEADER_SIZE, ETHERNET_TYPE_OFFSET } from '@virtlab/abi/ethernet';
import { IPV4_CHECKSUM, IPV4_HEADER_SIZE_MIN, IPV4_PROTOCOL } from '@virtlab/abi/internet';
import { OURS, checksum, datagram, experiment } from './frames.ts';

export const IP: number = ETHERNET_HEADER_SIZE;
export const ICMP: number = IP + IPV4_HEADER_SIZE_MIN;
const ETHERTYPE_ARP = 0x0806;
const PROTOCOL_ICMP = 1;
const ARP_REQUEST = [0, 1, 8, 0, 6, 4, 0, 1];
const ICMP_ECHO_REQUEST = 8;
const ICMP_CHECKSUM = 2;

export function arpRequest(): Uint8Array {
  const frame = experiment(60, 0);
  new DataView(frame.buffer).setUint16(ETHERNET_TYPE_OFFSET, ETHERTYPE_ARP);
  frame.set([...ARP_REQUEST, ...OURS, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2], IP);
  return frame;
}

/** A frame of `size` bytes in all. */
export function echoRequest(size: number): Uint8Array {
  const frame = datagram(size, size);
  const view = new DataView(frame.buffer);
  frame[IP + IPV4_PROTOCOL] = PROTOCOL_ICMP;
  view.setUint16(IP + IPV4_CHECKSUM, 0);
  view.setUint16(IP + IPV4_CHECKSUM, checksum(frame.subarray(IP, ICMP)));
  frame.set([ICMP_ECHO_REQUEST, 0, 0, 0, 0x12, 0x34, 0, size & 0xff], ICMP);
  view.setUint16(ICMP + ICMP_CHECKSUM, checksum(frame.subarray(ICMP)));
  return frame;
}
