/** VIRTIO 1.4, network device (§5.1): features, configuration, packet header. Header: linux/virtio_net.h. */
import { type Layout, extend, layout } from './layout.ts';

/** The device takes packets with partial checksum (§5.1.3). */
export const VIRTIO_NET_F_CSUM = 0;
/** The driver takes packets with partial checksum (§5.1.3). */
export const VIRTIO_NET_F_GUEST_CSUM = 1;
/** Offloads can be switched through the control queue (§5.1.3). */
export const VIRTIO_NET_F_CTRL_GUEST_OFFLOADS = 2;
/** `mtu` is valid (§5.1.3). */
export const VIRTIO_NET_F_MTU = 3;
/** `mac` is valid (§5.1.3). */
export const VIRTIO_NET_F_MAC = 5;
/** Legacy: the device takes any GSO packet (§5.1.3.2). */
export const VIRTIO_NET_F_GSO = 6;
/** The driver receives TSOv4 (§5.1.3). */
export const VIRTIO_NET_F_GUEST_TSO4 = 7;
/** The driver receives TSOv6 (§5.1.3). */
export const VIRTIO_NET_F_GUEST_TSO6 = 8;
/** The driver receives TSO with ECN (§5.1.3). */
export const VIRTIO_NET_F_GUEST_ECN = 9;
/** The driver receives UFO (§5.1.3). */
export const VIRTIO_NET_F_GUEST_UFO = 10;
/** The device takes TSOv4 (§5.1.3). */
export const VIRTIO_NET_F_HOST_TSO4 = 11;
/** The device takes TSOv6 (§5.1.3). */
export const VIRTIO_NET_F_HOST_TSO6 = 12;
/** The device takes TSO with ECN (§5.1.3). */
export const VIRTIO_NET_F_HOST_ECN = 13;
/** The device takes UFO (§5.1.3). */
export const VIRTIO_NET_F_HOST_UFO = 14;
/** The driver merges receive buffers (§5.1.3). */
export const VIRTIO_NET_F_MRG_RXBUF = 15;
/** `status` is valid (§5.1.3). */
export const VIRTIO_NET_F_STATUS = 16;
/** There is a control queue (§5.1.3). */
export const VIRTIO_NET_F_CTRL_VQ = 17;
/** Receive modes (§5.1.3). */
export const VIRTIO_NET_F_CTRL_RX = 18;
/** VLAN filtering (§5.1.3). */
export const VIRTIO_NET_F_CTRL_VLAN = 19;
/** Extra receive modes (§5.1.3). */
export const VIRTIO_NET_F_CTRL_RX_EXTRA = 20;
/** The driver can announce itself (§5.1.3). */
export const VIRTIO_NET_F_GUEST_ANNOUNCE = 21;
/** Multiqueue with automatic receive steering (§5.1.3). */
export const VIRTIO_NET_F_MQ = 22;
/** The MAC address can be set through the control queue (§5.1.3). */
export const VIRTIO_NET_F_CTRL_MAC_ADDR = 23;
/** Device statistics (§5.1.3). */
export const VIRTIO_NET_F_DEVICE_STATS = 50;
/** Hash of inner headers (§5.1.3). */
export const VIRTIO_NET_F_HASH_TUNNEL = 51;
/** Notification coalescing per queue (§5.1.3). */
export const VIRTIO_NET_F_VQ_NOTF_COAL = 52;
/** Notification coalescing (§5.1.3). */
export const VIRTIO_NET_F_NOTF_COAL = 53;
/** The driver receives USOv4 (§5.1.3). */
export const VIRTIO_NET_F_GUEST_USO4 = 54;
/** The driver receives USOv6 (§5.1.3). */
export const VIRTIO_NET_F_GUEST_USO6 = 55;
/** The device takes USO (§5.1.3). */
export const VIRTIO_NET_F_HOST_USO = 56;
/** Packets carry their hash (§5.1.3). */
export const VIRTIO_NET_F_HASH_REPORT = 57;
/** The driver gives the exact `hdr_len` (§5.1.3). */
export const VIRTIO_NET_F_GUEST_HDRLEN = 59;
/** Receive-side scaling (§5.1.3). */
export const VIRTIO_NET_F_RSS = 60;
/** Coalesced segment information (§5.1.3). */
export const VIRTIO_NET_F_RSC_EXT = 61;
/** Standby for a device with the same MAC address (§5.1.3). */
export const VIRTIO_NET_F_STANDBY = 62;
/** `speed` and `duplex` are valid (§5.1.3). */
export const VIRTIO_NET_F_SPEED_DUPLEX = 63;
/** Several RSS contexts (§5.1.3). */
export const VIRTIO_NET_F_RSS_CONTEXT = 64;
/** The driver receives GSO over a UDP tunnel (§5.1.3). */
export const VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO = 65;
/** The driver receives outer checksums over a UDP tunnel (§5.1.3). */
export const VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO_CSUM = 66;
/** The device takes GSO over a UDP tunnel (§5.1.3). */
export const VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO = 67;
/** The device takes outer checksums over a UDP tunnel (§5.1.3). */
export const VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO_CSUM = 68;

/** Packets sent carry the offset of the outer network header (§5.1.3). */
export const VIRTIO_NET_F_OUT_NET_HEADER = 69;
/** IPsec offload (§5.1.3). */
export const VIRTIO_NET_F_IPSEC = 70;

/** `status`: the link is up (§5.1.4). */
export const VIRTIO_NET_S_LINK_UP = 1;
/** `status`: the device wants an announcement (§5.1.4). */
export const VIRTIO_NET_S_ANNOUNCE = 2;
/** `duplex`: half, as Linux and the field's text read it (§5.1.4; its normative paragraph has them swapped). */
export const VIRTIO_NET_DUPLEX_HALF = 0x00;
/** `duplex`: full (§5.1.4). */
export const VIRTIO_NET_DUPLEX_FULL = 0x01;
/** `duplex`: unknown (§5.1.4). */
export const VIRTIO_NET_DUPLEX_UNKNOWN = 0xff;
/** `speed`: unknown (§5.1.4). */
export const VIRTIO_NET_SPEED_UNKNOWN = 0xffff_ffff;
/** Lowest `mtu` that a device may offer (§5.1.4.1). */
export const VIRTIO_NET_MTU_MIN = 68;
/** Highest `mtu` that a device may offer (§5.1.4.1). */
export const VIRTIO_NET_MTU_MAX = 65535;
/** Bytes of a MAC address (§5.1.4). */
export const VIRTIO_NET_MAC_SIZE = 6;

/** Header flag: finish the checksum at csum_start + csum_offset (§5.1.9). */
export const VIRTIO_NET_HDR_F_NEEDS_CSUM = 1;
/** Header flag: the checksum was verified (§5.1.9). */
export const VIRTIO_NET_HDR_F_DATA_VALID = 2;
/** Header flag: csum fields carry coalescing counts (§5.1.9). */
export const VIRTIO_NET_HDR_F_RSC_INFO = 4;
/** Header flag: the outer UDP checksum was verified or is to be made (§5.1.9). */
export const VIRTIO_NET_HDR_F_UDP_TUNNEL_CSUM = 8;
/** gso_type: none (§5.1.9). */
export const VIRTIO_NET_HDR_GSO_NONE = 0;
/** gso_type: TCP over IPv4 (§5.1.9). */
export const VIRTIO_NET_HDR_GSO_TCPV4 = 1;
/** gso_type: UDP fragmentation (§5.1.9). */
export const VIRTIO_NET_HDR_GSO_UDP = 3;
/** gso_type: TCP over IPv6 (§5.1.9). */
export const VIRTIO_NET_HDR_GSO_TCPV6 = 4;
/** gso_type: UDP segmentation (§5.1.9). */
export const VIRTIO_NET_HDR_GSO_UDP_L4 = 5;
/** gso_type bit: within a UDP tunnel over IPv4 (§5.1.9). */
export const VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV4 = 0x20;
/** gso_type bit: within a UDP tunnel over IPv6 (§5.1.9). */
export const VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV6 = 0x40;
/** gso_type bit: ECN is set (§5.1.9). */
export const VIRTIO_NET_HDR_GSO_ECN = 0x80;

const virtioNetConfig = {
  mac: ['u8', 6],
  status: 'le16',
  max_virtqueue_pairs: 'le16',
  mtu: 'le16',
  speed: 'le32',
  duplex: 'u8',
  rss_max_key_size: 'u8',
  rss_max_indirection_table_length: 'le16',
  supported_hash_types: 'le32',
  supported_tunnel_types: 'le32',
} as const;
/** §5.1.4, struct virtio_net_config. */
export const VIRTIO_NET_CONFIG: Layout<typeof virtioNetConfig> = layout(28, virtioNetConfig);

const virtioNetHdr = {
  flags: 'u8',
  gso_type: 'u8',
  hdr_len: 'le16',
  gso_size: 'le16',
  csum_start: 'le16',
  csum_offset: 'le16',
} as const;
/** §5.1.9.1: the legacy header without MRG_RXBUF. */
export const VIRTIO_NET_HDR: Layout<typeof virtioNetHdr> = layout(10, virtioNetHdr);

const virtioNetHdrV1 = { num_buffers: 'le16' } as const;
/** §5.1.9, struct virtio_net_hdr: the header of every modern device without HASH_REPORT. */
export const VIRTIO_NET_HDR_V1: Layout<typeof virtioNetHdr & typeof virtioNetHdrV1> = extend(
  12,
  VIRTIO_NET_HDR,
  virtioNetHdrV1,
);

const virtioNetHdrV1Hash = { hash_value: 'le32', hash_report: 'le16', padding_reserved: 'le16' } as const;
/** §5.1.9, struct virtio_net_hdr with HASH_REPORT. */
export const VIRTIO_NET_HDR_V1_HASH: Layout<
  typeof virtioNetHdr & typeof virtioNetHdrV1 & typeof virtioNetHdrV1Hash
> = extend(20, VIRTIO_NET_HDR_V1, virtioNetHdrV1Hash);

const virtioNetHdrV1HashTunnel = { outer_th_offset: 'le16', inner_nh_offset: 'le16' } as const;
/** §5.1.9, struct virtio_net_hdr with GUEST_UDP_TUNNEL_GSO or HOST_UDP_TUNNEL_GSO. */
export const VIRTIO_NET_HDR_V1_HASH_TUNNEL: Layout<
  typeof virtioNetHdr & typeof virtioNetHdrV1 & typeof virtioNetHdrV1Hash & typeof virtioNetHdrV1HashTunnel
> = extend(24, VIRTIO_NET_HDR_V1_HASH, virtioNetHdrV1HashTunnel);

/** Queue index of the receive queue of a pair (§5.1.2). */
export function virtioNetReceiveQueue(pairIndex: number): number {
  return 2 * pairIndex;
}

/** Queue index of the transmit queue of a pair (§5.1.2). */
export function virtioNetTransmitQueue(pairIndex: number): number {
  return 2 * pairIndex + 1;
}

/** Queue index of the control queue: after all the pairs that the device has, used or not (§5.1.2). */
export function virtioNetControlQueue(pairCount: number): number {
  return 2 * pairCount;
}
