/** Payloads that describe memory: regions, rings, logs, in-flight areas. */
import { type DomId, domId } from '@virtlab/abi/brands';
import {
  VHOST_USER_INFLIGHT,
  VHOST_USER_LOG,
  VHOST_USER_MAX_MEM_REGIONS,
  VHOST_USER_MEMORY,
  VHOST_USER_MEMORY_REGION,
  VHOST_USER_MEM_REG_PADDING,
  VHOST_USER_XEN_MEMORY_REGION,
  VHOST_USER_XEN_MMAP_FOREIGN,
  VHOST_USER_XEN_MMAP_GRANT,
  VHOST_USER_XEN_MMAP_NO_ADVANCE_MAP,
  VHOST_VRING_ADDR,
  VHOST_VRING_F_LOG,
} from '@virtlab/abi/vhost-user';
import {
  VIRTQUEUE_SIZE_MAX,
  VRING_AVAIL_ALIGN_SIZE,
  VRING_DESC_ALIGN_SIZE,
  VRING_USED_ALIGN_SIZE,
} from '@virtlab/abi/virtio-ring';
import { type Outcome, bad, good, hex } from './fault.ts';
import {
  type DecodeContext,
  type PayloadCodec,
  isAddressRange,
  noSuchQueue,
  viewOf,
  wrongSize,
} from './payload-codec.ts';

/** How a region of another domain's memory is mapped ("Memory region description" with XEN_MMAP). */
export interface XenMapping {
  readonly kind: 'foreign' | 'grant';
  /** Only what is used may be mapped, while it is used. */
  readonly isOnDemand: boolean;
  readonly domid: DomId;
}

/** "Memory region description": addresses, size and offset in bytes. */
export interface RegionDescription {
  readonly guestAddress: bigint;
  readonly size: bigint;
  readonly userAddress: bigint;
  readonly mmapOffset: bigint;
  /** Exactly when XEN_MMAP was negotiated. */
  readonly xen?: XenMapping;
}

const XEN_FLAGS =
  VHOST_USER_XEN_MMAP_FOREIGN | VHOST_USER_XEN_MMAP_GRANT | VHOST_USER_XEN_MMAP_NO_ADVANCE_MAP;

function regionSize({ hasXenMmap }: DecodeContext): number {
  return hasXenMmap ? VHOST_USER_XEN_MEMORY_REGION.size : VHOST_USER_MEMORY_REGION.size;
}

function readRegion(view: DataView, at: number, context: DecodeContext): Outcome<RegionDescription> {
  const { guest_phys_addr, memory_size, userspace_addr, mmap_offset } = VHOST_USER_MEMORY_REGION.read(
    view,
    at,
  );
  const ranges = [guest_phys_addr, userspace_addr, mmap_offset];
  if (!ranges.every((start) => isAddressRange(start, memory_size))) {
    const where = `guest ${hex(guest_phys_addr)}, user ${hex(userspace_addr)}, offset ${hex(mmap_offset)}`;
    return bad('BAD_VALUE', `region of ${hex(memory_size)} bytes at ${where} is empty or ends beyond 2^64`);
  }
  const region = {
    guestAddress: guest_phys_addr,
    size: memory_size,
    userAddress: userspace_addr,
    mmapOffset: mmap_offset,
  };
  if (!context.hasXenMmap) return good(region);
  const xen = readXen(view, at);
  return xen.ok ? good({ ...region, xen: xen.value }) : xen;
}

function readXen(view: DataView, at: number): Outcome<XenMapping> {
  const { xen_mmap_flags: flags, domid } = VHOST_USER_XEN_MEMORY_REGION.read(view, at);
  const isForeign = (flags & VHOST_USER_XEN_MMAP_FOREIGN) !== 0;
  const isGrant = (flags & VHOST_USER_XEN_MMAP_GRANT) !== 0;
  const isOnDemand = (flags & VHOST_USER_XEN_MMAP_NO_ADVANCE_MAP) !== 0;
  // Exactly one kind; a foreign mapping needs no one's grant, so it is always made in advance.
  if ((flags & ~XEN_FLAGS) !== 0 || isForeign === isGrant || (isForeign && isOnDemand)) {
    return bad('BAD_VALUE', `Xen mapping flags ${hex(flags)}`);
  }
  if (domid > 0xffff) return bad('BAD_VALUE', `domain ${hex(domid)}`);
  return good({ kind: isForeign ? 'foreign' : 'grant', isOnDemand, domid: domId(domid) });
}

function writeRegion(view: DataView, at: number, region: RegionDescription, context: DecodeContext): void {
  const words = {
    guest_phys_addr: region.guestAddress,
    memory_size: region.size,
    userspace_addr: region.userAddress,
    mmap_offset: region.mmapOffset,
  };
  if (!context.hasXenMmap) {
    VHOST_USER_MEMORY_REGION.write(view, at, words);
    return;
  }
  const { xen } = region;
  if (xen === undefined) throw new RangeError('A region under XEN_MMAP needs its Xen mapping');
  const kind = xen.kind === 'foreign' ? VHOST_USER_XEN_MMAP_FOREIGN : VHOST_USER_XEN_MMAP_GRANT;
  const onDemand = xen.isOnDemand ? VHOST_USER_XEN_MMAP_NO_ADVANCE_MAP : 0;
  VHOST_USER_XEN_MEMORY_REGION.write(view, at, {
    ...words,
    xen_mmap_flags: kind | onDemand,
    domid: xen.domid,
  });
}

/** "Multiple memory regions description": as many as there are, or always room for eight, as the text has it. */
export const MEMORY_TABLE: PayloadCodec<readonly RegionDescription[]> = {
  decode(bytes, context) {
    const start = VHOST_USER_MEMORY.size;
    if (bytes.length < start) return wrongSize(bytes, `${start} or more`);
    const view = viewOf(bytes);
    const { nregions } = VHOST_USER_MEMORY.read(view, 0);
    if (nregions > VHOST_USER_MAX_MEM_REGIONS) {
      return bad('BAD_VALUE', `${nregions} regions, at most ${VHOST_USER_MAX_MEM_REGIONS}`);
    }
    const each = regionSize(context);
    const exact = start + nregions * each;
    if (bytes.length !== exact && bytes.length !== start + VHOST_USER_MAX_MEM_REGIONS * each) {
      return wrongSize(bytes, exact);
    }
    const regions: RegionDescription[] = [];
    for (let index = 0; index < nregions; index += 1) {
      const region = readRegion(view, start + index * each, context);
      if (!region.ok) return region;
      regions.push(region.value);
    }
    return good(regions);
  },
  encode(regions, context) {
    if (regions.length > VHOST_USER_MAX_MEM_REGIONS) {
      throw new RangeError(`${regions.length} regions, at most ${VHOST_USER_MAX_MEM_REGIONS}`);
    }
    const start = VHOST_USER_MEMORY.size;
    const each = regionSize(context);
    const bytes = new Uint8Array(start + regions.length * each);
    const view = viewOf(bytes);
    VHOST_USER_MEMORY.write(view, 0, { nregions: regions.length, padding: 0 });
    for (const [index, region] of regions.entries()) writeRegion(view, start + index * each, region, context);
    return bytes;
  },
};

/** "Single memory region description". */
export const MEMORY_REGION: PayloadCodec<RegionDescription> = {
  decode(bytes, context) {
    const size = VHOST_USER_MEM_REG_PADDING + regionSize(context);
    if (bytes.length !== size) return wrongSize(bytes, size);
    return readRegion(viewOf(bytes), VHOST_USER_MEM_REG_PADDING, context);
  },
  encode(region, context) {
    const bytes = new Uint8Array(VHOST_USER_MEM_REG_PADDING + regionSize(context));
    writeRegion(viewOf(bytes), VHOST_USER_MEM_REG_PADDING, region, context);
    return bytes;
  },
};

/** "Vring address description", in user addresses. */
export interface VringAddresses {
  readonly index: number;
  /** Writes to the used ring are logged, its first byte at `logAddress`. */
  readonly isLogged: boolean;
  readonly descriptorArea: bigint;
  readonly driverArea: bigint;
  readonly deviceArea: bigint;
  readonly logAddress: bigint;
}

export const VRING_ADDRESSES: PayloadCodec<VringAddresses> = {
  decode(bytes, context) {
    if (bytes.length !== VHOST_VRING_ADDR.size) return wrongSize(bytes, VHOST_VRING_ADDR.size);
    const { index, flags, desc, used, avail, log } = VHOST_VRING_ADDR.read(viewOf(bytes), 0);
    if (index >= context.queueCount) return noSuchQueue(index, context);
    if (flags >>> (VHOST_VRING_F_LOG + 1) !== 0) return bad('BAD_VALUE', `vring flags ${hex(flags)}`);
    const areas = [
      ['descriptor table', desc, VRING_DESC_ALIGN_SIZE],
      ['available ring', avail, VRING_AVAIL_ALIGN_SIZE],
      ['used ring', used, VRING_USED_ALIGN_SIZE],
    ] as const;
    for (const [name, address, alignment] of areas) {
      if (address % BigInt(alignment) === 0n) continue;
      return bad('BAD_VALUE', `${name} of queue ${index} at ${hex(address)} is not aligned to ${alignment}`);
    }
    return good({
      index,
      isLogged: (flags & (1 << VHOST_VRING_F_LOG)) !== 0,
      descriptorArea: desc,
      driverArea: avail,
      deviceArea: used,
      logAddress: log,
    });
  },
  encode(value) {
    const bytes = new Uint8Array(VHOST_VRING_ADDR.size);
    VHOST_VRING_ADDR.write(viewOf(bytes), 0, {
      index: value.index,
      flags: value.isLogged ? 1 << VHOST_VRING_F_LOG : 0,
      desc: value.descriptorArea,
      used: value.deviceArea,
      avail: value.driverArea,
      log: value.logAddress,
    });
    return bytes;
  },
};

/** "Log description": bytes of the log, and where it starts in the descriptor. */
export interface LogArea {
  readonly size: bigint;
  readonly offset: bigint;
}

export const LOG: PayloadCodec<LogArea> = {
  decode(bytes) {
    if (bytes.length !== VHOST_USER_LOG.size) return wrongSize(bytes, VHOST_USER_LOG.size);
    const { mmap_size: size, mmap_offset: offset } = VHOST_USER_LOG.read(viewOf(bytes), 0);
    if (!isAddressRange(offset, size)) return bad('BAD_VALUE', `log of ${hex(size)} bytes at ${hex(offset)}`);
    return good({ size, offset });
  },
  encode({ size, offset }) {
    const bytes = new Uint8Array(VHOST_USER_LOG.size);
    VHOST_USER_LOG.write(viewOf(bytes), 0, { mmap_size: size, mmap_offset: offset });
    return bytes;
  },
};

/** "Inflight description". */
export interface InflightArea {
  readonly size: bigint;
  readonly offset: bigint;
  readonly queueCount: number;
  readonly queueSize: number;
}

/** Without the padding of the C structure: senders that pack it exist. What is sent has it. */
const INFLIGHT_PACKED_SIZE = VHOST_USER_INFLIGHT.offset.queue_size + VHOST_USER_INFLIGHT.width.queue_size;

export const INFLIGHT: PayloadCodec<InflightArea> = {
  decode(bytes, context) {
    if (bytes.length !== VHOST_USER_INFLIGHT.size && bytes.length !== INFLIGHT_PACKED_SIZE) {
      return wrongSize(bytes, VHOST_USER_INFLIGHT.size);
    }
    const padded = new Uint8Array(VHOST_USER_INFLIGHT.size);
    padded.set(bytes);
    const { mmap_size, mmap_offset, num_queues, queue_size } = VHOST_USER_INFLIGHT.read(viewOf(padded), 0);
    if (
      num_queues === 0 ||
      num_queues > context.queueCount ||
      queue_size > VIRTQUEUE_SIZE_MAX ||
      queue_size === 0
    ) {
      return bad('BAD_VALUE', `in-flight area for ${num_queues} queues of ${queue_size} entries`);
    }
    if (mmap_size !== 0n && !isAddressRange(mmap_offset, mmap_size)) {
      return bad('BAD_VALUE', `in-flight area of ${hex(mmap_size)} bytes at ${hex(mmap_offset)}`);
    }
    return good({ size: mmap_size, offset: mmap_offset, queueCount: num_queues, queueSize: queue_size });
  },
  encode(value) {
    const bytes = new Uint8Array(VHOST_USER_INFLIGHT.size);
    VHOST_USER_INFLIGHT.write(viewOf(bytes), 0, {
      mmap_size: value.size,
      mmap_offset: value.offset,
      num_queues: value.queueCount,
      queue_size: value.queueSize,
    });
    return bytes;
  },
};
