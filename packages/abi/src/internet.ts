/**
 * The parts of Internet packets that checksum and segmentation offloads and receive hashing look at: RFC 791 (IPv4), RFC 8200
 * (IPv6), RFC 9293 (TCP), RFC 768 (UDP), RFC 4302 §2.2 (AH), RFC 6275 §6 (home address, type 2 routing). All fields
 * are big-endian.
 */

/** EtherType: IPv4 (RFC 894). */
export const ETHERTYPE_IPV4 = 0x0800;
/** EtherType: IPv6 (RFC 2464 §3). */
export const ETHERTYPE_IPV6 = 0x86dd;
/** EtherType: customer VLAN tag (802.1Q Table 9-1). */
export const ETHERTYPE_VLAN = 0x8100;
/** EtherType: service VLAN tag (802.1Q Table 9-1). */
export const ETHERTYPE_SERVICE_VLAN = 0x88a8;
/** Bits of a tag that are the VLAN id (802.1Q §9.6). */
export const VLAN_ID_MASK = 0x0fff;

/** Protocol or next header: TCP, UDP (RFC 9293 §3.1, RFC 768). */
export const IP_PROTOCOL_TCP = 6;
export const IP_PROTOCOL_UDP = 17;
/** Next header of IPv6 extensions (RFC 8200 §4, RFC 4302). */
export const IPV6_HOP_BY_HOP = 0;
export const IPV6_ROUTING = 43;
export const IPV6_FRAGMENT = 44;
export const IPV6_AUTHENTICATION = 51;
export const IPV6_DESTINATION_OPTIONS = 60;
/** Option that carries a home address, and routing header that carries one (RFC 6275 §6.3, §6.4). */
export const IPV6_OPTION_HOME_ADDRESS = 0xc9;
export const IPV6_ROUTING_TYPE_2 = 2;

/** IPv4 header (RFC 791 §3.1): smallest size, offsets, fragmentation bits. */
export const IPV4_HEADER_SIZE_MIN = 20;
export const IPV4_TOTAL_LENGTH = 2;
export const IPV4_ID = 4;
export const IPV4_FRAGMENT = 6;
export const IPV4_PROTOCOL = 9;
export const IPV4_CHECKSUM = 10;
export const IPV4_SOURCE = 12;
export const IPV4_DESTINATION = 16;
export const IPV4_ADDRESS_SIZE = 4;
/** More fragments, and the offset: any of them set makes a fragment. */
export const IPV4_FRAGMENT_MASK = 0x3fff;

/** IPv6 header (RFC 8200 §3): size, offsets. */
export const IPV6_HEADER_SIZE = 40;
export const IPV6_PAYLOAD_LENGTH = 4;
export const IPV6_NEXT_HEADER = 6;
export const IPV6_SOURCE = 8;
export const IPV6_DESTINATION = 24;
export const IPV6_ADDRESS_SIZE = 16;

/** TCP header (RFC 9293 §3.1): smallest size, offsets, flags. */
export const TCP_HEADER_SIZE_MIN = 20;
export const TCP_SEQUENCE = 4;
export const TCP_DATA_OFFSET = 12;
export const TCP_FLAGS = 13;
export const TCP_CHECKSUM = 16;
export const TCP_FLAG_FIN = 0x01;
export const TCP_FLAG_PSH = 0x08;
/** RFC 3168 §6.1: congestion window reduced. */
export const TCP_FLAG_CWR = 0x80;

/** UDP header (RFC 768): size, offsets. */
export const UDP_HEADER_SIZE = 8;
export const UDP_LENGTH = 4;
export const UDP_CHECKSUM = 6;
