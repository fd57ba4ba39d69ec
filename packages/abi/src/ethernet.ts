/** IEEE 802.3 §3.2 and IEEE 802.1Q: the parts of an Ethernet frame that a bridge looks at. No preamble, no FCS. */

/** Bytes of a MAC address. */
export const ETHERNET_ADDRESS_SIZE = 6;
/** Where the destination address starts. */
export const ETHERNET_DESTINATION_OFFSET = 0;
/** Where the source address starts. */
export const ETHERNET_SOURCE_OFFSET = 6;
/** Where the length/type field starts; big-endian. */
export const ETHERNET_TYPE_OFFSET = 12;
/** Bytes before the payload of an untagged frame. */
export const ETHERNET_HEADER_SIZE = 14;
/** Bytes that a VLAN tag adds to the header (802.1Q §9.6). */
export const ETHERNET_VLAN_TAG_SIZE = 4;

/** First byte of an address: set for a group (multicast or broadcast), clear for an individual address. */
export const ETHERNET_GROUP_BIT = 0x01;
/** First byte of an address: set if it is locally administered. */
export const ETHERNET_LOCAL_BIT = 0x02;

/** First two and last four bytes of the first reserved address, 01-80-C2-00-00-00 (802.1Q Table 8-1). */
export const ETHERNET_RESERVED_HIGH = 0x0180;
export const ETHERNET_RESERVED_LOW = 0xc200_0000;
/** Addresses in that block; a bridge forwards none of them. */
export const ETHERNET_RESERVED_COUNT = 16;
