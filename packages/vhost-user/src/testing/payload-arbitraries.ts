import {
  VHOST_USER_MAX_CONFIG_SIZE,
  VHOST_USER_SHARED_UUID_SIZE,
  VHOST_USER_SHMEM_REGION_COUNT,
} from '@virtlab/abi/vhost-user';
import { domId } from '@virtlab/abi/brands';
import * as fc from 'fast-check';
import type { BackendRequestPayloads, ReplyPayloads, RequestPayloads } from '../messages.ts';
import type { RegionDescription } from '../payload-memory.ts';

export const QUEUE_COUNT = 5;

const u64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
const index = fc.nat(QUEUE_COUNT - 1);
const none = fc.constant(undefined);
const state = (num: fc.Arbitrary<number>) => fc.record({ index, num });
const anyState = state(fc.integer({ min: 0, max: 0xffff_ffff }));
const flagState = state(fc.nat(1));
const vringFd = fc.record({ index, hasFd: fc.boolean() });
/** A start and a size that end inside 64 bits. */
const range = fc
  .tuple(u64, fc.bigInt({ min: 1n, max: 1n << 48n }))
  .map(([start, size]) => [start > 1n << 63n ? start - (1n << 63n) : start, size] as const);
const aligned = (alignment: bigint) => u64.map((address) => address - (address % alignment));

function region(hasXenMmap: boolean): fc.Arbitrary<RegionDescription> {
  const address = fc.bigInt({ min: 0n, max: 1n << 62n });
  const plain = {
    guestAddress: address,
    userAddress: address,
    mmapOffset: address,
    size: fc.bigInt({ min: 1n, max: 1n << 48n }),
  };
  if (!hasXenMmap) return fc.record(plain);
  const xen = fc
    .record({ isGrant: fc.boolean(), isLate: fc.boolean(), domid: fc.nat(0xffff) })
    .map(({ isGrant, isLate, domid }) => ({
      kind: isGrant ? ('grant' as const) : ('foreign' as const),
      isOnDemand: isGrant && isLate,
      domid: domId(domid),
    }));
  return fc.record({ ...plain, xen });
}

const uuid = fc.uint8Array({
  minLength: VHOST_USER_SHARED_UUID_SIZE,
  maxLength: VHOST_USER_SHARED_UUID_SIZE,
});
const config = fc
  .tuple(
    fc.nat(VHOST_USER_MAX_CONFIG_SIZE - 1),
    fc.uint8Array({ minLength: 1, maxLength: VHOST_USER_MAX_CONFIG_SIZE }),
    fc.boolean(),
  )
  .map(([offset, bytes, isMigration]) => ({
    offset,
    bytes: bytes.slice(0, VHOST_USER_MAX_CONFIG_SIZE - offset),
    isMigration,
  }));
const inflight = fc
  .tuple(range, fc.integer({ min: 1, max: QUEUE_COUNT }), fc.integer({ min: 1, max: 0x8000 }))
  .map(([[offset, size], queueCount, queueSize]) => ({ offset, size, queueCount, queueSize }));
const log = range.map(([offset, size]) => ({ offset, size }));
const opaque = fc.uint8Array({ maxLength: 64 });
const iotlb = fc
  .tuple(
    fc.constantFrom('miss', 'update', 'invalidate', 'accessFail'),
    range,
    fc.bigInt({ min: 0n, max: 1n << 62n }),
    fc.nat(3),
  )
  .map(([type, [iova, size], userAddress, permissions]) => ({ type, iova, size, userAddress, permissions }));
const addresses = fc.record({
  index,
  isLogged: fc.boolean(),
  descriptorArea: aligned(16n),
  driverArea: aligned(2n),
  deviceArea: aligned(4n),
  logAddress: u64,
});
const mapping = range.map(([shmOffset, size]) => ({
  shmid: Number(size % 256n),
  fdOffset: 0x1000n,
  shmOffset,
  size,
  isWritable: size % 2n === 0n,
}));

type Arbitraries<T> = { readonly [Name in keyof T]: fc.Arbitrary<T[Name]> };

/** A payload of each request that is in order for a device with `QUEUE_COUNT` queues. */
export function requestArbitraries(hasXenMmap: boolean): Arbitraries<RequestPayloads> {
  return {
    GET_FEATURES: none,
    SET_FEATURES: u64,
    SET_OWNER: none,
    RESET_OWNER: none,
    SET_MEM_TABLE: fc.array(region(hasXenMmap), { maxLength: 8 }),
    SET_LOG_BASE: log,
    SET_LOG_FD: none,
    SET_VRING_NUM: state(fc.integer({ min: 0, max: 0x8000 })),
    SET_VRING_ADDR: addresses,
    SET_VRING_BASE: anyState,
    GET_VRING_BASE: anyState,
    SET_VRING_KICK: vringFd,
    SET_VRING_CALL: vringFd,
    SET_VRING_ERR: vringFd,
    GET_PROTOCOL_FEATURES: none,
    SET_PROTOCOL_FEATURES: u64,
    GET_QUEUE_NUM: none,
    SET_VRING_ENABLE: flagState,
    SEND_RARP: u64,
    NET_SET_MTU: u64,
    SET_BACKEND_REQ_FD: none,
    IOTLB_MSG: iotlb,
    SET_VRING_ENDIAN: flagState,
    GET_CONFIG: config,
    SET_CONFIG: config,
    CREATE_CRYPTO_SESSION: opaque,
    CLOSE_CRYPTO_SESSION: u64,
    POSTCOPY_ADVISE: none,
    POSTCOPY_LISTEN: none,
    POSTCOPY_END: none,
    GET_INFLIGHT_FD: inflight,
    SET_INFLIGHT_FD: inflight,
    GPU_SET_SOCKET: none,
    RESET_DEVICE: none,
    VRING_KICK: anyState,
    GET_MAX_MEM_SLOTS: none,
    ADD_MEM_REG: region(hasXenMmap),
    REM_MEM_REG: region(hasXenMmap),
    SET_STATUS: u64,
    GET_STATUS: none,
    GET_SHARED_OBJECT: uuid,
    SET_DEVICE_STATE_FD: fc.record({ direction: fc.constantFrom('save', 'load') }),
    CHECK_DEVICE_STATE: none,
    GET_SHMEM_CONFIG: none,
    GET_VRING_BASE_SKIP_DRAIN: anyState,
  };
}

/** A reply to each request that has one. */
export const REPLY_ARBITRARIES: Partial<Arbitraries<ReplyPayloads>> = {
  GET_FEATURES: u64,
  GET_VRING_BASE: anyState,
  GET_PROTOCOL_FEATURES: u64,
  GET_CONFIG: fc.option(config, { nil: undefined }),
  GET_INFLIGHT_FD: inflight,
  GET_SHMEM_CONFIG: fc.array(u64, {
    minLength: VHOST_USER_SHMEM_REGION_COUNT,
    maxLength: VHOST_USER_SHMEM_REGION_COUNT,
  }),
};

export const BACKEND_ARBITRARIES: Arbitraries<BackendRequestPayloads> = {
  IOTLB_MSG: iotlb,
  CONFIG_CHANGE_MSG: none,
  VRING_HOST_NOTIFIER_MSG: range.map(([offset, size]) => ({ index: 1, hasFd: true, offset, size })),
  VRING_CALL: anyState,
  VRING_ERR: anyState,
  SHARED_OBJECT_ADD: uuid,
  SHARED_OBJECT_REMOVE: uuid,
  SHARED_OBJECT_LOOKUP: uuid,
  SHMEM_MAP: mapping.filter(({ size }) => size < 1n << 60n),
  SHMEM_UNMAP: mapping.filter(({ size }) => size < 1n << 60n),
};
