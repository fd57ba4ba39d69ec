/** The payloads of vhost-user messages that are a word or two, and what all codecs share. */
import {
  VHOST_USER_SHARED_UUID_SIZE,
  VHOST_USER_VRING_AREA,
  VHOST_USER_VRING_IDX_MASK,
  VHOST_USER_VRING_NOFD_MASK,
  VHOST_VRING_STATE,
} from '@virtlab/abi/vhost-user';
import { type Outcome, bad, good, hex } from './fault.ts';

/** What the reading of a payload depends on, as it stands when the message is read. */
export interface DecodeContext {
  /** Queues of the device: indices are below it. */
  readonly queueCount: number;
  /** XEN_MMAP was negotiated: memory regions have two more fields. */
  readonly hasXenMmap: boolean;
}

/** One payload layout. `decode` reads each byte once and keeps no reference to `bytes`; it never throws. */
export interface PayloadCodec<T> {
  decode(bytes: Uint8Array, context: DecodeContext): Outcome<T>;
  /** Throws `RangeError` for a value that does not fit: a bug of the sender's own. */
  encode(value: T, context: DecodeContext): Uint8Array;
}

const U64_SIZE = 8;
const U64_MAX = (1n << 64n) - 1n;
const NO_BYTES = new Uint8Array(0);

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export function wrongSize(bytes: Uint8Array, wanted: number | string): ReturnType<typeof bad> {
  return bad('BAD_SIZE', `payload of ${bytes.length} bytes, not ${wanted}`);
}

/** Whether `[address, address + size)` is not empty and lies inside 64 bits. */
export function isAddressRange(address: bigint, size: bigint): boolean {
  return size > 0n && address + size - 1n <= U64_MAX;
}

/** Messages without a payload. */
export const EMPTY: PayloadCodec<undefined> = {
  decode: (bytes) => (bytes.length === 0 ? good(undefined) : wrongSize(bytes, 0)),
  encode: () => NO_BYTES,
};

/** "A single 64-bit integer". */
export const U64: PayloadCodec<bigint> = {
  decode: (bytes) =>
    bytes.length === U64_SIZE ? good(viewOf(bytes).getBigUint64(0, true)) : wrongSize(bytes, U64_SIZE),
  encode(value) {
    if (value < 0n || value > U64_MAX) throw new RangeError(`${value} is not a 64-bit word`);
    const bytes = new Uint8Array(U64_SIZE);
    viewOf(bytes).setBigUint64(0, value, true);
    return bytes;
  },
};

/** "A vring state description", and both descriptions of vring indices. */
export interface VringState {
  readonly index: number;
  readonly num: number;
}

/** `numMax` bounds `num`; the index is checked against the device's queues. */
function vringState(numMax: number): PayloadCodec<VringState> {
  return {
    decode(bytes, context) {
      if (bytes.length !== VHOST_VRING_STATE.size) return wrongSize(bytes, VHOST_VRING_STATE.size);
      const { index, num } = VHOST_VRING_STATE.read(viewOf(bytes), 0);
      if (index >= context.queueCount) return noSuchQueue(index, context);
      if (num > numMax) return bad('BAD_VALUE', `num ${hex(num)} of queue ${index} is above ${hex(numMax)}`);
      return good({ index, num });
    },
    encode(value) {
      const bytes = new Uint8Array(VHOST_VRING_STATE.size);
      VHOST_VRING_STATE.write(viewOf(bytes), 0, value);
      return bytes;
    },
  };
}

export function noSuchQueue(index: number, { queueCount }: DecodeContext): ReturnType<typeof bad> {
  return bad('BAD_VALUE', `queue ${hex(index)} of a device with ${queueCount}`);
}

/** Any number: a base, or a reserved field that some senders leave as it was. */
export const VRING_STATE: PayloadCodec<VringState> = vringState(0xffff_ffff);
/** SET_VRING_NUM: what a ring can have at most, checked against the device's own limit later. */
export const VRING_NUM: PayloadCodec<VringState> = vringState(0x8000);
/** SET_VRING_ENABLE and SET_VRING_ENDIAN. */
export const VRING_FLAG: PayloadCodec<VringState> = vringState(1);

/** KICK, CALL and ERR: which queue, and whether a descriptor came along (otherwise that queue is polled). */
export interface VringFd {
  readonly index: number;
  readonly hasFd: boolean;
}

export const VRING_FD: PayloadCodec<VringFd> = {
  decode(bytes, context) {
    const word = U64.decode(bytes, context);
    if (!word.ok) return word;
    return vringFd(word.value, context);
  },
  encode: (value, context) => U64.encode(vringWord(value), context),
};

function vringFd(word: bigint, context: DecodeContext): Outcome<VringFd> {
  const known = BigInt(VHOST_USER_VRING_IDX_MASK | VHOST_USER_VRING_NOFD_MASK);
  if ((word & ~known) !== 0n) return bad('BAD_VALUE', `unknown bits in ${hex(word)}`);
  const index = Number(word) & VHOST_USER_VRING_IDX_MASK;
  if (index >= context.queueCount) return noSuchQueue(index, context);
  return good({ index, hasFd: (Number(word) & VHOST_USER_VRING_NOFD_MASK) === 0 });
}

function vringWord({ index, hasFd }: VringFd): bigint {
  return BigInt(index | (hasFd ? 0 : VHOST_USER_VRING_NOFD_MASK));
}

/** "Vring area description". */
export interface VringArea extends VringFd {
  readonly size: bigint;
  readonly offset: bigint;
}

export const VRING_AREA: PayloadCodec<VringArea> = {
  decode(bytes, context) {
    if (bytes.length !== VHOST_USER_VRING_AREA.size) return wrongSize(bytes, VHOST_USER_VRING_AREA.size);
    const { u64, size, offset } = VHOST_USER_VRING_AREA.read(viewOf(bytes), 0);
    const fd = vringFd(u64, context);
    if (!fd.ok) return fd;
    if (fd.value.hasFd && !isAddressRange(offset, size)) {
      return bad('BAD_VALUE', `area of ${hex(size)} bytes at ${hex(offset)}`);
    }
    return good({ ...fd.value, size, offset });
  },
  encode(value) {
    const bytes = new Uint8Array(VHOST_USER_VRING_AREA.size);
    const { size, offset } = value;
    VHOST_USER_VRING_AREA.write(viewOf(bytes), 0, { u64: vringWord(value), size, offset });
    return bytes;
  },
};

/** "VhostUserShared": 16 bytes as they stand in the message. */
export const UUID: PayloadCodec<Uint8Array> = {
  decode: (bytes) =>
    bytes.length === VHOST_USER_SHARED_UUID_SIZE
      ? good(bytes.slice())
      : wrongSize(bytes, VHOST_USER_SHARED_UUID_SIZE),
  encode(value) {
    if (value.length !== VHOST_USER_SHARED_UUID_SIZE) {
      throw new RangeError(`UUID of ${value.length} bytes, not ${VHOST_USER_SHARED_UUID_SIZE}`);
    }
    return value.slice();
  },
};

/** A payload of which only the size is known here: those of features that nobody of ours negotiates. */
export const OPAQUE: PayloadCodec<Uint8Array> = {
  decode: (bytes) => good(bytes.slice()),
  encode: (value) => value.slice(),
};
