/** PCAP Capture File Format (draft-ietf-opsawg-pcap), in little-endian files. */
import { type Layout, layout } from './layout.ts';

/** Time stamps are seconds and microseconds (§4). */
export const PCAP_MAGIC_MICROSECONDS = 0xa1b2_c3d4;
/** Time stamps are seconds and nanoseconds (§4). */
export const PCAP_MAGIC_NANOSECONDS = 0xa1b2_3c4d;
/** The version that all readers know (§4). */
export const PCAP_VERSION_MAJOR = 2;
export const PCAP_VERSION_MINOR = 4;
/** Ethernet frames (the LINKTYPE registry, draft-ietf-opsawg-pcaplinktype). */
export const PCAP_LINKTYPE_ETHERNET = 1;
/** What libpcap takes as the largest captured size of a packet. */
export const PCAP_SNAPLEN_MAX = 262_144;

const pcapFileHeader = {
  magic: 'le32',
  version_major: 'le16',
  version_minor: 'le16',
  reserved1: 'le32',
  reserved2: 'le32',
  snaplen: 'le32',
  linktype: 'le32',
} as const;
/** §4, the file header. */
export const PCAP_FILE_HEADER: Layout<typeof pcapFileHeader> = layout(24, pcapFileHeader);

const pcapPacketHeader = {
  ts_sec: 'le32',
  ts_frac: 'le32',
  captured_len: 'le32',
  original_len: 'le32',
} as const;
/** §5, the header before each packet. */
export const PCAP_PACKET_HEADER: Layout<typeof pcapPacketHeader> = layout(16, pcapPacketHeader);
