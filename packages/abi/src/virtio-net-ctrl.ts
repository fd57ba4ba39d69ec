/**
 * VIRTIO 1.4, network device: control virtqueue (§5.1.9.5) and receive hashing (§5.1.9.4). Header: linux/virtio_net.h,
 * whose names `VIRTIO_NET_RSS_HASH_TYPE_*` are used; the specification has `VIRTIO_NET_HASH_TYPE_*`.
 */
import { type Layout, layout } from './layout.ts';

/** Acknowledgement: done (§5.1.9.5). */
export const VIRTIO_NET_OK = 0;
/** Acknowledgement: failed (§5.1.9.5). */
export const VIRTIO_NET_ERR = 1;
/** Bytes of the acknowledgement (§5.1.9.5). */
export const VIRTIO_NET_CTRL_ACK_SIZE = 1;

const virtioNetCtrlHdr = { class: 'u8', command: 'u8' } as const;
/** §5.1.9.5, struct virtio_net_ctrl up to its data. */
export const VIRTIO_NET_CTRL_HDR: Layout<typeof virtioNetCtrlHdr> = layout(2, virtioNetCtrlHdr);

/** Class: receive modes; each command carries one byte, 0 or 1 (§5.1.9.5.1). */
export const VIRTIO_NET_CTRL_RX = 0;
/** RX: promiscuous (§5.1.9.5.1). */
export const VIRTIO_NET_CTRL_RX_PROMISC = 0;
/** RX: all multicast (§5.1.9.5.1). */
export const VIRTIO_NET_CTRL_RX_ALLMULTI = 1;
/** RX: all unicast (§5.1.9.5.1). */
export const VIRTIO_NET_CTRL_RX_ALLUNI = 2;
/** RX: no multicast (§5.1.9.5.1). */
export const VIRTIO_NET_CTRL_RX_NOMULTI = 3;
/** RX: no unicast (§5.1.9.5.1). */
export const VIRTIO_NET_CTRL_RX_NOUNI = 4;
/** RX: no broadcast (§5.1.9.5.1). */
export const VIRTIO_NET_CTRL_RX_NOBCAST = 5;

/** Class: MAC addresses (§5.1.9.5.2). */
export const VIRTIO_NET_CTRL_MAC = 1;
/** MAC: set the unicast and the multicast table (§5.1.9.5.2). */
export const VIRTIO_NET_CTRL_MAC_TABLE_SET = 0;
/** MAC: set the default address (§5.1.9.5.2). */
export const VIRTIO_NET_CTRL_MAC_ADDR_SET = 1;
const virtioNetCtrlMac = { entries: 'le32' } as const;
/** §5.1.9.5.2, struct virtio_net_ctrl_mac: the count before the addresses of one table. */
export const VIRTIO_NET_CTRL_MAC_TABLE: Layout<typeof virtioNetCtrlMac> = layout(4, virtioNetCtrlMac);

/** Class: VLAN filter; the data is a le16 VLAN id (§5.1.9.5.3). */
export const VIRTIO_NET_CTRL_VLAN = 2;
/** VLAN: let an id through (§5.1.9.5.3). */
export const VIRTIO_NET_CTRL_VLAN_ADD = 0;
/** VLAN: filter an id (§5.1.9.5.3). */
export const VIRTIO_NET_CTRL_VLAN_DEL = 1;

/** Class: announcement (§5.1.9.5.4). */
export const VIRTIO_NET_CTRL_ANNOUNCE = 3;
/** ANNOUNCE: the wish was seen (§5.1.9.5.4). */
export const VIRTIO_NET_CTRL_ANNOUNCE_ACK = 0;

/** Class: multiqueue (§5.1.9.5.5). */
export const VIRTIO_NET_CTRL_MQ = 4;
/** MQ: number of pairs in use, automatic steering (§5.1.9.5.6). */
export const VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET = 0;
/** Fewest pairs (§5.1.9.5.6). */
export const VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN = 1;
/** Most pairs (§5.1.9.5.6). */
export const VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MAX = 0x8000;
/** MQ: receive-side scaling (§5.1.9.5.7). */
export const VIRTIO_NET_CTRL_MQ_RSS_CONFIG = 1;
/** MQ: hash calculation (§5.1.9.5.6.4). */
export const VIRTIO_NET_CTRL_MQ_HASH_CONFIG = 2;
const virtioNetCtrlMq = { virtqueue_pairs: 'le16' } as const;
/** §5.1.9.5.6, struct virtio_net_ctrl_mq. */
export const VIRTIO_NET_CTRL_MQ_PAIRS: Layout<typeof virtioNetCtrlMq> = layout(2, virtioNetCtrlMq);
const virtioNetRssConfig = {
  hash_types: 'le32',
  indirection_table_mask: 'le16',
  unclassified_queue: 'le16',
} as const;
/** §5.1.9.5.7, struct virtio_net_rss_config up to its table; then le16 × (mask + 1), le16 max_tx_vq, u8 key length, key. */
export const VIRTIO_NET_RSS_CONFIG: Layout<typeof virtioNetRssConfig> = layout(8, virtioNetRssConfig);
const virtioNetHashConfig = { hash_types: 'le32', reserved: ['le16', 4] } as const;
/** §5.1.9.5.6.4, struct virtio_net_hash_config up to its key: then u8 key length, key. */
export const VIRTIO_NET_HASH_CONFIG: Layout<typeof virtioNetHashConfig> = layout(12, virtioNetHashConfig);

/** Class: offloads; the data is a le64 of feature bits (§5.1.9.5.9). */
export const VIRTIO_NET_CTRL_GUEST_OFFLOADS = 5;
/** GUEST_OFFLOADS: set (§5.1.9.5.9). */
export const VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET = 0;

/** GUEST_OFFLOADS: bit number of GUEST_UDP_TUNNEL_GSO, which as a feature is 65 (§5.1.9.5.9.1; name from Linux). */
export const VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO_MAPPED = 46;
/** GUEST_OFFLOADS: bit number of GUEST_UDP_TUNNEL_GSO_CSUM, which as a feature is 66 (§5.1.9.5.9.1; name from Linux). */
export const VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO_CSUM_MAPPED = 47;

/** Class: notification coalescing (§5.1.9.5.10). */
export const VIRTIO_NET_CTRL_NOTF_COAL = 6;
/** NOTF_COAL: all transmit queues (§5.1.9.5.10). */
export const VIRTIO_NET_CTRL_NOTF_COAL_TX_SET = 0;
/** NOTF_COAL: all receive queues (§5.1.9.5.10). */
export const VIRTIO_NET_CTRL_NOTF_COAL_RX_SET = 1;
/** NOTF_COAL: set one queue (§5.1.9.5.10). */
export const VIRTIO_NET_CTRL_NOTF_COAL_VQ_SET = 2;
/** NOTF_COAL: get one queue (§5.1.9.5.10). */
export const VIRTIO_NET_CTRL_NOTF_COAL_VQ_GET = 3;
const virtioNetCtrlCoal = { max_packets: 'le32', max_usecs: 'le32' } as const;
/** §5.1.9.5.10, struct virtio_net_ctrl_coal. */
export const VIRTIO_NET_CTRL_COAL: Layout<typeof virtioNetCtrlCoal> = layout(8, virtioNetCtrlCoal);
const virtioNetCtrlCoalVq = {
  vq_index: 'le16',
  reserved: 'le16',
  max_packets: 'le32',
  max_usecs: 'le32',
} as const;
/** §5.1.9.5.10, struct virtio_net_ctrl_coal_vq. */
export const VIRTIO_NET_CTRL_COAL_VQ: Layout<typeof virtioNetCtrlCoalVq> = layout(12, virtioNetCtrlCoalVq);

/** Class: inner header hash (§5.1.9.4.4). */
export const VIRTIO_NET_CTRL_HASH_TUNNEL = 7;
/** HASH_TUNNEL: set the encapsulation types (§5.1.9.4.4). */
export const VIRTIO_NET_CTRL_HASH_TUNNEL_SET = 0;

/** Class: statistics (§5.1.9.5.11). */
export const VIRTIO_NET_CTRL_STATS = 8;
/** STATS: which there are (§5.1.9.5.11.1). */
export const VIRTIO_NET_CTRL_STATS_QUERY = 0;
/** STATS: their values (§5.1.9.5.11.2). */
export const VIRTIO_NET_CTRL_STATS_GET = 1;

/** Class: RSS contexts; the specification's own prefix (§5.1.9.5.8). */
export const VIRTNET_RSS_CTX_CTRL = 9;
/** RSS_CTX: what the device can do (§5.1.9.5.8.1). */
export const VIRTNET_RSS_CTX_CTRL_CAP_GET = 0;
/** RSS_CTX: add a context (§5.1.9.5.8.2). */
export const VIRTNET_RSS_CTX_CTRL_ADD = 1;
/** RSS_CTX: change a context (§5.1.9.5.8.2). */
export const VIRTNET_RSS_CTX_CTRL_MOD = 2;
/** RSS_CTX: delete a context (§5.1.9.5.8.2). */
export const VIRTNET_RSS_CTX_CTRL_DEL = 3;

/** Hash type: IPv4 (§5.1.9.4.3.1). */
export const VIRTIO_NET_RSS_HASH_TYPE_IPv4 = 0x001;
/** Hash type: TCP over IPv4 (§5.1.9.4.3.1). */
export const VIRTIO_NET_RSS_HASH_TYPE_TCPv4 = 0x002;
/** Hash type: UDP over IPv4 (§5.1.9.4.3.1). */
export const VIRTIO_NET_RSS_HASH_TYPE_UDPv4 = 0x004;
/** Hash type: IPv6 (§5.1.9.4.3.1). */
export const VIRTIO_NET_RSS_HASH_TYPE_IPv6 = 0x008;
/** Hash type: TCP over IPv6 (§5.1.9.4.3.1). */
export const VIRTIO_NET_RSS_HASH_TYPE_TCPv6 = 0x010;
/** Hash type: UDP over IPv6 (§5.1.9.4.3.1). */
export const VIRTIO_NET_RSS_HASH_TYPE_UDPv6 = 0x020;
/** Hash type: IPv6 with extension headers (§5.1.9.4.3.1). */
export const VIRTIO_NET_RSS_HASH_TYPE_IP_EX = 0x040;
/** Hash type: TCP over IPv6 with extension headers (§5.1.9.4.3.1). */
export const VIRTIO_NET_RSS_HASH_TYPE_TCP_EX = 0x080;
/** Hash type: UDP over IPv6 with extension headers (§5.1.9.4.3.1). */
export const VIRTIO_NET_RSS_HASH_TYPE_UDP_EX = 0x100;

/** Hash report: none (§5.1.9.4.5). */
export const VIRTIO_NET_HASH_REPORT_NONE = 0;
/** Hash report: IPv4 (§5.1.9.4.5). */
export const VIRTIO_NET_HASH_REPORT_IPv4 = 1;
/** Hash report: TCP over IPv4 (§5.1.9.4.5). */
export const VIRTIO_NET_HASH_REPORT_TCPv4 = 2;
/** Hash report: UDP over IPv4 (§5.1.9.4.5). */
export const VIRTIO_NET_HASH_REPORT_UDPv4 = 3;
/** Hash report: IPv6 (§5.1.9.4.5). */
export const VIRTIO_NET_HASH_REPORT_IPv6 = 4;
/** Hash report: TCP over IPv6 (§5.1.9.4.5). */
export const VIRTIO_NET_HASH_REPORT_TCPv6 = 5;
/** Hash report: UDP over IPv6 (§5.1.9.4.5). */
export const VIRTIO_NET_HASH_REPORT_UDPv6 = 6;
/** Hash report: IPv6 with extension headers (§5.1.9.4.5). */
export const VIRTIO_NET_HASH_REPORT_IPv6_EX = 7;
/** Hash report: TCP over IPv6 with extension headers (§5.1.9.4.5). */
export const VIRTIO_NET_HASH_REPORT_TCPv6_EX = 8;
/** Hash report: UDP over IPv6 with extension headers (§5.1.9.4.5). */
export const VIRTIO_NET_HASH_REPORT_UDPv6_EX = 9;
