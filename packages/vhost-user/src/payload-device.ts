/** Payloads about the device: configuration space, IOTLB, state transfer, shared memory. */
import {
  VHOST_ACCESS_RW,
  VHOST_IOTLB_ACCESS_FAIL,
  VHOST_IOTLB_INVALIDATE,
  VHOST_IOTLB_MISS,
  VHOST_IOTLB_MSG,
  VHOST_IOTLB_UPDATE,
  VHOST_TRANSFER_STATE_DIRECTION_LOAD,
  VHOST_TRANSFER_STATE_PHASE_STOPPED,
  VHOST_USER_CONFIG,
  VHOST_USER_CONFIG_MIGRATION,
  VHOST_USER_CONFIG_WRITABLE,
  VHOST_USER_FLAG_MAP_RW,
  VHOST_USER_MAX_CONFIG_SIZE,
  VHOST_USER_MMAP,
  VHOST_USER_SHMEM_CONFIG,
  VHOST_USER_SHMEM_REGION_COUNT,
  VHOST_USER_TRANSFER_DEVICE_STATE,
} from '@virtlab/abi/vhost-user';
import { bad, good, hex } from './fault.ts';
import { type PayloadCodec, isAddressRange, viewOf, wrongSize } from './payload-codec.ts';

/** "Virtio device config space": bytes from `offset` on; in a request to read they say only how many. */
export interface ConfigAccess {
  readonly offset: number;
  readonly bytes: Uint8Array;
  /** For live migration: fields that a driver cannot write are written too. */
  readonly isMigration: boolean;
}

export const CONFIG: PayloadCodec<ConfigAccess> = {
  decode(bytes) {
    const start = VHOST_USER_CONFIG.size;
    if (bytes.length < start) return wrongSize(bytes, `${start} or more`);
    const { offset, size, flags } = VHOST_USER_CONFIG.read(viewOf(bytes), 0);
    if (bytes.length !== start + size) return wrongSize(bytes, start + size);
    if (size === 0 || offset + size > VHOST_USER_MAX_CONFIG_SIZE) {
      return bad('BAD_VALUE', `configuration of ${hex(size)} bytes at ${hex(offset)}`);
    }
    if (flags !== VHOST_USER_CONFIG_WRITABLE && flags !== VHOST_USER_CONFIG_MIGRATION) {
      return bad('BAD_VALUE', `configuration flags ${hex(flags)}`);
    }
    const isMigration = flags === VHOST_USER_CONFIG_MIGRATION;
    return good({ offset, bytes: bytes.slice(start), isMigration });
  },
  encode({ offset, bytes, isMigration }) {
    const out = new Uint8Array(VHOST_USER_CONFIG.size + bytes.length);
    const flags = isMigration ? VHOST_USER_CONFIG_MIGRATION : VHOST_USER_CONFIG_WRITABLE;
    VHOST_USER_CONFIG.write(viewOf(out), 0, { offset, size: bytes.length, flags });
    out.set(bytes, VHOST_USER_CONFIG.size);
    return out;
  },
};

/** GET_CONFIG's answer: no payload at all means that it failed. */
export const CONFIG_REPLY: PayloadCodec<ConfigAccess | undefined> = {
  decode: (bytes, context) => (bytes.length === 0 ? good(undefined) : CONFIG.decode(bytes, context)),
  encode: (value, context) => (value === undefined ? new Uint8Array(0) : CONFIG.encode(value, context)),
};

const IOTLB_TYPES = ['miss', 'update', 'invalidate', 'accessFail'] as const;
const IOTLB_NUMBERS: Readonly<Record<(typeof IOTLB_TYPES)[number], number>> = {
  miss: VHOST_IOTLB_MISS,
  update: VHOST_IOTLB_UPDATE,
  invalidate: VHOST_IOTLB_INVALIDATE,
  accessFail: VHOST_IOTLB_ACCESS_FAIL,
};

/** "An IOTLB message"; `permissions` is a set of `VHOST_ACCESS_*`. */
export interface IotlbMessage {
  readonly type: (typeof IOTLB_TYPES)[number];
  readonly iova: bigint;
  readonly size: bigint;
  readonly userAddress: bigint;
  readonly permissions: number;
}

export const IOTLB: PayloadCodec<IotlbMessage> = {
  decode(bytes) {
    if (bytes.length !== VHOST_IOTLB_MSG.size) return wrongSize(bytes, VHOST_IOTLB_MSG.size);
    const { iova, size, user_addr, permissions, type: number } = VHOST_IOTLB_MSG.read(viewOf(bytes), 0);
    const type = IOTLB_TYPES.find((name) => IOTLB_NUMBERS[name] === number);
    if (type === undefined) return bad('BAD_VALUE', `IOTLB message type ${number}`);
    if (permissions > VHOST_ACCESS_RW) return bad('BAD_VALUE', `IOTLB permissions ${hex(permissions)}`);
    const isRange = type === 'update' || type === 'invalidate';
    if (
      isRange &&
      !(isAddressRange(iova, size) && (type === 'invalidate' || isAddressRange(user_addr, size)))
    ) {
      return bad('BAD_VALUE', `IOTLB range of ${hex(size)} bytes at ${hex(iova)}`);
    }
    return good({ type, iova, size, userAddress: user_addr, permissions });
  },
  encode({ type, iova, size, userAddress, permissions }) {
    const bytes = new Uint8Array(VHOST_IOTLB_MSG.size);
    const words = { iova, size, user_addr: userAddress, permissions, type: IOTLB_NUMBERS[type] };
    VHOST_IOTLB_MSG.write(viewOf(bytes), 0, words);
    return bytes;
  },
};

/** "Device state transfer parameters"; the one phase that exists is the suspended device's. */
export interface StateTransfer {
  readonly direction: 'save' | 'load';
}

export const STATE_TRANSFER: PayloadCodec<StateTransfer> = {
  decode(bytes) {
    if (bytes.length !== VHOST_USER_TRANSFER_DEVICE_STATE.size) {
      return wrongSize(bytes, VHOST_USER_TRANSFER_DEVICE_STATE.size);
    }
    const { direction, phase } = VHOST_USER_TRANSFER_DEVICE_STATE.read(viewOf(bytes), 0);
    if (direction > VHOST_TRANSFER_STATE_DIRECTION_LOAD || phase !== VHOST_TRANSFER_STATE_PHASE_STOPPED) {
      return bad('BAD_VALUE', `state transfer direction ${hex(direction)}, phase ${hex(phase)}`);
    }
    return good({ direction: direction === VHOST_TRANSFER_STATE_DIRECTION_LOAD ? 'load' : 'save' });
  },
  encode(value) {
    const bytes = new Uint8Array(VHOST_USER_TRANSFER_DEVICE_STATE.size);
    const direction = value.direction === 'load' ? VHOST_TRANSFER_STATE_DIRECTION_LOAD : 0;
    VHOST_USER_TRANSFER_DEVICE_STATE.write(viewOf(bytes), 0, {
      direction,
      phase: VHOST_TRANSFER_STATE_PHASE_STOPPED,
    });
    return bytes;
  },
};

/** "MMAP request". */
export interface ShmemMapping {
  readonly shmid: number;
  readonly fdOffset: bigint;
  readonly shmOffset: bigint;
  readonly size: bigint;
  readonly isWritable: boolean;
}

export const SHMEM_MAPPING: PayloadCodec<ShmemMapping> = {
  decode(bytes) {
    if (bytes.length !== VHOST_USER_MMAP.size) return wrongSize(bytes, VHOST_USER_MMAP.size);
    const { shmid, fd_offset, shm_offset, len, flags } = VHOST_USER_MMAP.read(viewOf(bytes), 0);
    if (!isAddressRange(fd_offset, len) || !isAddressRange(shm_offset, len)) {
      return bad('BAD_VALUE', `mapping of ${hex(len)} bytes at ${hex(shm_offset)}`);
    }
    if (flags > BigInt(VHOST_USER_FLAG_MAP_RW)) return bad('BAD_VALUE', `mapping flags ${hex(flags)}`);
    return good({ shmid, fdOffset: fd_offset, shmOffset: shm_offset, size: len, isWritable: flags !== 0n });
  },
  encode({ shmid, fdOffset, shmOffset, size, isWritable }) {
    const bytes = new Uint8Array(VHOST_USER_MMAP.size);
    VHOST_USER_MMAP.write(viewOf(bytes), 0, {
      shmid,
      padding: new Uint8Array(VHOST_USER_MMAP.width.padding),
      fd_offset: fdOffset,
      shm_offset: shmOffset,
      len: size,
      flags: BigInt(isWritable ? VHOST_USER_FLAG_MAP_RW : 0),
    });
    return bytes;
  },
};

/** "VIRTIO Shared Memory Region configuration": sizes in bytes by shmid, 0 where there is none. */
export const SHMEM_CONFIG: PayloadCodec<readonly bigint[]> = {
  decode(bytes) {
    if (bytes.length !== VHOST_USER_SHMEM_CONFIG.size) return wrongSize(bytes, VHOST_USER_SHMEM_CONFIG.size);
    const { nregions, memory_sizes } = VHOST_USER_SHMEM_CONFIG.read(viewOf(bytes), 0);
    const count = memory_sizes.filter((size) => size !== 0n).length;
    if (nregions !== count)
      return bad('BAD_VALUE', `${nregions} shared memory regions, ${count} have a size`);
    return good(memory_sizes);
  },
  encode(sizes) {
    const bytes = new Uint8Array(VHOST_USER_SHMEM_CONFIG.size);
    const memory_sizes = Array.from({ length: VHOST_USER_SHMEM_REGION_COUNT }, (_, i) => sizes[i] ?? 0n);
    const nregions = memory_sizes.filter((size) => size !== 0n).length;
    VHOST_USER_SHMEM_CONFIG.write(viewOf(bytes), 0, { nregions, padding: 0, memory_sizes });
    return bytes;
  },
};
