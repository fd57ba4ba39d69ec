/**
 * Every message of both channels: payload, reply, descriptors, and the protocol feature it needs ("Front-end message
 * types", "Back-end message types"). The tables decide alone what the connection sends and takes.
 */
import {
  VHOST_USER,
  VHOST_USER_BACKEND,
  type VhostUserBackendRequest,
  type VhostUserProtocolFeature,
  type VhostUserRequest,
} from '@virtlab/abi/vhost-user';
import {
  EMPTY,
  OPAQUE,
  type PayloadCodec,
  U64,
  UUID,
  VRING_AREA,
  VRING_FD,
  VRING_FLAG,
  VRING_NUM,
  VRING_STATE,
  type VringArea,
  type VringFd,
  type VringState,
} from './payload-codec.ts';
import {
  CONFIG,
  CONFIG_REPLY,
  type ConfigAccess,
  IOTLB,
  type IotlbMessage,
  SHMEM_CONFIG,
  SHMEM_MAPPING,
  STATE_TRANSFER,
  type ShmemMapping,
  type StateTransfer,
} from './payload-device.ts';
import {
  INFLIGHT,
  type InflightArea,
  LOG,
  type LogArea,
  MEMORY_REGION,
  MEMORY_TABLE,
  type RegionDescription,
  VRING_ADDRESSES,
  type VringAddresses,
} from './payload-memory.ts';

/** How many descriptors a message carries. */
export interface FdCount {
  readonly min: number;
  readonly max: number;
}

/** One message. Without `reply` it is answered only when the sender asks for it, by a `u64` that is 0 for success. */
export interface MessageShape<Payload, Reply> {
  readonly id: number;
  readonly payload: PayloadCodec<Payload>;
  fds(payload: Payload): FdCount;
  readonly reply?: PayloadCodec<Reply>;
  readonly replyFds: FdCount;
  /** Not before this feature was negotiated. */
  readonly feature?: VhostUserProtocolFeature;
}

/** Requests by name, and what a reply brings; `undefined` is an acknowledgement. */
export type MessageTable<Payloads, Replies> = {
  readonly [Name in keyof Payloads & keyof Replies & string]: MessageShape<Payloads[Name], Replies[Name]>;
};

type Acknowledged = Record<VhostUserRequest, undefined>;

/** What each request of the VhostUserFrontend carries. */
export interface RequestPayloads extends Omit<Acknowledged, keyof RequestValues>, RequestValues {}

interface RequestValues {
  SET_FEATURES: bigint;
  SET_MEM_TABLE: readonly RegionDescription[];
  SET_LOG_BASE: LogArea;
  SET_VRING_NUM: VringState;
  SET_VRING_ADDR: VringAddresses;
  SET_VRING_BASE: VringState;
  GET_VRING_BASE: VringState;
  SET_VRING_KICK: VringFd;
  SET_VRING_CALL: VringFd;
  SET_VRING_ERR: VringFd;
  SET_PROTOCOL_FEATURES: bigint;
  SET_VRING_ENABLE: VringState;
  SEND_RARP: bigint;
  NET_SET_MTU: bigint;
  IOTLB_MSG: IotlbMessage;
  SET_VRING_ENDIAN: VringState;
  GET_CONFIG: ConfigAccess;
  SET_CONFIG: ConfigAccess;
  CREATE_CRYPTO_SESSION: Uint8Array;
  CLOSE_CRYPTO_SESSION: bigint;
  GET_INFLIGHT_FD: InflightArea;
  SET_INFLIGHT_FD: InflightArea;
  VRING_KICK: VringState;
  ADD_MEM_REG: RegionDescription;
  REM_MEM_REG: RegionDescription;
  SET_STATUS: bigint;
  GET_SHARED_OBJECT: Uint8Array;
  SET_DEVICE_STATE_FD: StateTransfer;
  GET_VRING_BASE_SKIP_DRAIN: VringState;
}

/** What the VhostUserBackend answers to each. */
export interface ReplyPayloads extends Omit<Acknowledged, keyof ReplyValues>, ReplyValues {}

interface ReplyValues {
  GET_FEATURES: bigint;
  SET_LOG_BASE: bigint;
  GET_VRING_BASE: VringState;
  GET_PROTOCOL_FEATURES: bigint;
  GET_QUEUE_NUM: bigint;
  IOTLB_MSG: bigint;
  GET_CONFIG: ConfigAccess | undefined;
  CREATE_CRYPTO_SESSION: Uint8Array;
  POSTCOPY_END: bigint;
  GET_INFLIGHT_FD: InflightArea;
  GET_MAX_MEM_SLOTS: bigint;
  GET_STATUS: bigint;
  SET_DEVICE_STATE_FD: bigint;
  CHECK_DEVICE_STATE: bigint;
  GET_SHMEM_CONFIG: readonly bigint[];
  GET_VRING_BASE_SKIP_DRAIN: VringState;
}

type BackendAcknowledged = Record<VhostUserBackendRequest, undefined>;

/** What each request of the VhostUserBackend carries, on the channel of its own. */
export interface BackendRequestPayloads
  extends Omit<BackendAcknowledged, keyof BackendRequestValues>, BackendRequestValues {}

interface BackendRequestValues {
  IOTLB_MSG: IotlbMessage;
  VRING_HOST_NOTIFIER_MSG: VringArea;
  VRING_CALL: VringState;
  VRING_ERR: VringState;
  SHARED_OBJECT_ADD: Uint8Array;
  SHARED_OBJECT_REMOVE: Uint8Array;
  SHARED_OBJECT_LOOKUP: Uint8Array;
  SHMEM_MAP: ShmemMapping;
  SHMEM_UNMAP: ShmemMapping;
}

/** What the VhostUserFrontend answers to each. */
export interface BackendReplyPayloads
  extends Omit<BackendAcknowledged, 'SHARED_OBJECT_LOOKUP'>, BackendReplyValues {}

interface BackendReplyValues {
  SHARED_OBJECT_LOOKUP: bigint;
}

const NO_FDS: FdCount = { min: 0, max: 0 };
const ONE_FD: FdCount = { min: 1, max: 1 };
const MAYBE_FD: FdCount = { min: 0, max: 1 };

interface ShapeOptions<Payload, Reply> {
  readonly fds?: FdCount | ((payload: Payload) => FdCount);
  readonly reply?: PayloadCodec<Reply>;
  readonly replyFds?: FdCount;
  readonly feature?: VhostUserProtocolFeature;
}

function shape<Payload, Reply>(
  id: number,
  payload: PayloadCodec<Payload>,
  options: ShapeOptions<Payload, Reply> = {},
): MessageShape<Payload, Reply> {
  const { fds = NO_FDS, reply, replyFds = NO_FDS, feature } = options;
  return {
    id,
    payload,
    fds: typeof fds === 'function' ? fds : () => fds,
    replyFds,
    ...(reply === undefined ? {} : { reply }),
    ...(feature === undefined ? {} : { feature }),
  };
}

const byFlag = ({ hasFd }: VringFd): FdCount => (hasFd ? ONE_FD : NO_FDS);
const byRegion = ({ length }: readonly RegionDescription[]): FdCount => ({ min: length, max: length });

/** Requests of the VhostUserFrontend. */
export const REQUESTS: MessageTable<RequestPayloads, ReplyPayloads> = {
  GET_FEATURES: shape(VHOST_USER.GET_FEATURES, EMPTY, { reply: U64 }),
  SET_FEATURES: shape(VHOST_USER.SET_FEATURES, U64),
  SET_OWNER: shape(VHOST_USER.SET_OWNER, EMPTY),
  RESET_OWNER: shape(VHOST_USER.RESET_OWNER, EMPTY),
  SET_MEM_TABLE: shape(VHOST_USER.SET_MEM_TABLE, MEMORY_TABLE, { fds: byRegion }),
  SET_LOG_BASE: shape(VHOST_USER.SET_LOG_BASE, LOG, { fds: ONE_FD, reply: U64, feature: 'LOG_SHMFD' }),
  SET_LOG_FD: shape(VHOST_USER.SET_LOG_FD, EMPTY, { fds: ONE_FD }),
  SET_VRING_NUM: shape(VHOST_USER.SET_VRING_NUM, VRING_NUM),
  SET_VRING_ADDR: shape(VHOST_USER.SET_VRING_ADDR, VRING_ADDRESSES),
  SET_VRING_BASE: shape(VHOST_USER.SET_VRING_BASE, VRING_STATE),
  GET_VRING_BASE: shape(VHOST_USER.GET_VRING_BASE, VRING_STATE, { reply: VRING_STATE }),
  SET_VRING_KICK: shape(VHOST_USER.SET_VRING_KICK, VRING_FD, { fds: byFlag }),
  SET_VRING_CALL: shape(VHOST_USER.SET_VRING_CALL, VRING_FD, { fds: byFlag }),
  SET_VRING_ERR: shape(VHOST_USER.SET_VRING_ERR, VRING_FD, { fds: byFlag }),
  GET_PROTOCOL_FEATURES: shape(VHOST_USER.GET_PROTOCOL_FEATURES, EMPTY, { reply: U64 }),
  SET_PROTOCOL_FEATURES: shape(VHOST_USER.SET_PROTOCOL_FEATURES, U64),
  GET_QUEUE_NUM: shape(VHOST_USER.GET_QUEUE_NUM, EMPTY, { reply: U64 }),
  SET_VRING_ENABLE: shape(VHOST_USER.SET_VRING_ENABLE, VRING_FLAG),
  SEND_RARP: shape(VHOST_USER.SEND_RARP, U64, { feature: 'RARP' }),
  NET_SET_MTU: shape(VHOST_USER.NET_SET_MTU, U64, { feature: 'MTU' }),
  SET_BACKEND_REQ_FD: shape(VHOST_USER.SET_BACKEND_REQ_FD, EMPTY, { fds: ONE_FD, feature: 'BACKEND_REQ' }),
  IOTLB_MSG: shape(VHOST_USER.IOTLB_MSG, IOTLB, { reply: U64 }),
  SET_VRING_ENDIAN: shape(VHOST_USER.SET_VRING_ENDIAN, VRING_FLAG, { feature: 'CROSS_ENDIAN' }),
  GET_CONFIG: shape(VHOST_USER.GET_CONFIG, CONFIG, { reply: CONFIG_REPLY, feature: 'CONFIG' }),
  SET_CONFIG: shape(VHOST_USER.SET_CONFIG, CONFIG, { feature: 'CONFIG' }),
  CREATE_CRYPTO_SESSION: shape(VHOST_USER.CREATE_CRYPTO_SESSION, OPAQUE, {
    reply: OPAQUE,
    feature: 'CRYPTO_SESSION',
  }),
  CLOSE_CRYPTO_SESSION: shape(VHOST_USER.CLOSE_CRYPTO_SESSION, U64, { feature: 'CRYPTO_SESSION' }),
  POSTCOPY_ADVISE: shape(VHOST_USER.POSTCOPY_ADVISE, EMPTY, {
    reply: EMPTY,
    replyFds: ONE_FD,
    feature: 'PAGEFAULT',
  }),
  POSTCOPY_LISTEN: shape(VHOST_USER.POSTCOPY_LISTEN, EMPTY, { feature: 'PAGEFAULT' }),
  POSTCOPY_END: shape(VHOST_USER.POSTCOPY_END, EMPTY, { reply: U64, feature: 'PAGEFAULT' }),
  GET_INFLIGHT_FD: shape(VHOST_USER.GET_INFLIGHT_FD, INFLIGHT, {
    reply: INFLIGHT,
    replyFds: ONE_FD,
    feature: 'INFLIGHT_SHMFD',
  }),
  SET_INFLIGHT_FD: shape(VHOST_USER.SET_INFLIGHT_FD, INFLIGHT, { fds: ONE_FD, feature: 'INFLIGHT_SHMFD' }),
  GPU_SET_SOCKET: shape(VHOST_USER.GPU_SET_SOCKET, EMPTY, { fds: ONE_FD }),
  RESET_DEVICE: shape(VHOST_USER.RESET_DEVICE, EMPTY, { feature: 'RESET_DEVICE' }),
  VRING_KICK: shape(VHOST_USER.VRING_KICK, VRING_STATE, { feature: 'INBAND_NOTIFICATIONS' }),
  GET_MAX_MEM_SLOTS: shape(VHOST_USER.GET_MAX_MEM_SLOTS, EMPTY, {
    reply: U64,
    feature: 'CONFIGURE_MEM_SLOTS',
  }),
  ADD_MEM_REG: shape(VHOST_USER.ADD_MEM_REG, MEMORY_REGION, { fds: ONE_FD, feature: 'CONFIGURE_MEM_SLOTS' }),
  // A descriptor is tolerated, and closed ("For compatibility with existing incorrect implementations").
  REM_MEM_REG: shape(VHOST_USER.REM_MEM_REG, MEMORY_REGION, {
    fds: MAYBE_FD,
    feature: 'CONFIGURE_MEM_SLOTS',
  }),
  SET_STATUS: shape(VHOST_USER.SET_STATUS, U64, { feature: 'STATUS' }),
  GET_STATUS: shape(VHOST_USER.GET_STATUS, EMPTY, { reply: U64, feature: 'STATUS' }),
  GET_SHARED_OBJECT: shape(VHOST_USER.GET_SHARED_OBJECT, UUID, {
    reply: EMPTY,
    replyFds: MAYBE_FD,
    feature: 'SHARED_OBJECT',
  }),
  SET_DEVICE_STATE_FD: shape(VHOST_USER.SET_DEVICE_STATE_FD, STATE_TRANSFER, {
    fds: ONE_FD,
    reply: U64,
    replyFds: MAYBE_FD,
    feature: 'DEVICE_STATE',
  }),
  CHECK_DEVICE_STATE: shape(VHOST_USER.CHECK_DEVICE_STATE, EMPTY, { reply: U64, feature: 'DEVICE_STATE' }),
  GET_SHMEM_CONFIG: shape(VHOST_USER.GET_SHMEM_CONFIG, EMPTY, { reply: SHMEM_CONFIG, feature: 'SHMEM' }),
  GET_VRING_BASE_SKIP_DRAIN: shape(VHOST_USER.GET_VRING_BASE_SKIP_DRAIN, VRING_STATE, {
    reply: VRING_STATE,
    feature: 'GET_VRING_BASE_SKIP_DRAIN',
  }),
};

/** Requests of the VhostUserBackend. */
export const BACKEND_REQUESTS: MessageTable<BackendRequestPayloads, BackendReplyPayloads> = {
  IOTLB_MSG: shape(VHOST_USER_BACKEND.IOTLB_MSG, IOTLB),
  CONFIG_CHANGE_MSG: shape(VHOST_USER_BACKEND.CONFIG_CHANGE_MSG, EMPTY, { feature: 'CONFIG' }),
  VRING_HOST_NOTIFIER_MSG: shape(VHOST_USER_BACKEND.VRING_HOST_NOTIFIER_MSG, VRING_AREA, {
    fds: byFlag,
    feature: 'HOST_NOTIFIER',
  }),
  VRING_CALL: shape(VHOST_USER_BACKEND.VRING_CALL, VRING_STATE, { feature: 'INBAND_NOTIFICATIONS' }),
  VRING_ERR: shape(VHOST_USER_BACKEND.VRING_ERR, VRING_STATE, { feature: 'INBAND_NOTIFICATIONS' }),
  SHARED_OBJECT_ADD: shape(VHOST_USER_BACKEND.SHARED_OBJECT_ADD, UUID, { feature: 'SHARED_OBJECT' }),
  SHARED_OBJECT_REMOVE: shape(VHOST_USER_BACKEND.SHARED_OBJECT_REMOVE, UUID, { feature: 'SHARED_OBJECT' }),
  SHARED_OBJECT_LOOKUP: shape(VHOST_USER_BACKEND.SHARED_OBJECT_LOOKUP, UUID, {
    reply: U64,
    replyFds: MAYBE_FD,
    feature: 'SHARED_OBJECT',
  }),
  SHMEM_MAP: shape(VHOST_USER_BACKEND.SHMEM_MAP, SHMEM_MAPPING, { fds: ONE_FD, feature: 'SHMEM' }),
  SHMEM_UNMAP: shape(VHOST_USER_BACKEND.SHMEM_UNMAP, SHMEM_MAPPING, { feature: 'SHMEM' }),
};
