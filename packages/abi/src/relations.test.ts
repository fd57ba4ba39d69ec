/** What the C headers do not state as a number of their own follows from numbers that they do state. */
import { describe, expect, it } from 'vitest';
import { domId, evtchnPort, grantHandle, grantRef } from './brands.ts';
import * as eventChannel from './event-channel.ts';
import * as grantTable from './grant-table.ts';
import * as ioreq from './ioreq.ts';
import * as pci from './pci.ts';
import * as virtioBlk from './virtio-blk.ts';
import * as virtioNet from './virtio-net.ts';
import * as virtioPci from './virtio-pci.ts';
import * as virtioRing from './virtio-ring.ts';
import { VIRTIO_F_RING_PACKED, VIRTIO_F_VERSION_1, featureBit, featureBits, hasFeature } from './virtio.ts';
import { VHOST_USER, VHOST_USER_BACKEND, VHOST_USER_PROTOCOL_F } from './vhost-user.ts';
import * as xen from './xen.ts';
import * as xsWire from './xs-wire.ts';

describe('virtio', () => {
  it('§2.2 a feature above bit 31 has a mask of its own', () => {
    expect(featureBit(VIRTIO_F_VERSION_1)).toBe(0x1_0000_0000n);
    const bits = featureBits(VIRTIO_F_VERSION_1, virtioNet.VIRTIO_NET_F_RSS_CONTEXT);
    expect(bits).toBe(0x1_0000_0000_0000_0000n + 0x1_0000_0000n);
    expect(hasFeature(bits, VIRTIO_F_VERSION_1)).toBe(true);
    expect(hasFeature(bits, virtioNet.VIRTIO_NET_F_CSUM)).toBe(false);
    expect(hasFeature(bits, VIRTIO_F_RING_PACKED)).toBe(false);
    expect(featureBits()).toBe(0n);
  });

  it.each([1, 4, 256, 32768])('§2.7 areas of a split ring of %i: 16n, 6 + 2n, 6 + 8n', (n) => {
    expect(virtioRing.vringDescSize(n)).toBe(16 * n);
    expect(virtioRing.vringUsedEventOffset(n)).toBe(4 + 2 * n);
    expect(virtioRing.vringAvailSize(n)).toBe(6 + 2 * n);
    expect(virtioRing.vringAvailEventOffset(n)).toBe(4 + 8 * n);
    expect(virtioRing.vringUsedSize(n)).toBe(6 + 8 * n);
    expect(virtioRing.vringPackedDescSize(n)).toBe(16 * n);
  });

  it('§2.7.6, §2.7.8 entries and event words have the width of the index', () => {
    expect(virtioRing.VRING_AVAIL_ELEM_SIZE).toBe(virtioRing.VRING_AVAIL.width.idx);
    expect(virtioRing.VRING_EVENT_SIZE).toBe(virtioRing.VRING_AVAIL.width.idx);
  });

  it('§2.8 the packed areas are aligned to their entries', () => {
    expect(virtioRing.VRING_PACKED_DESC_ALIGN_SIZE).toBe(virtioRing.VRING_PACKED_DESC.size);
    expect(virtioRing.VRING_PACKED_EVENT_ALIGN_SIZE).toBe(virtioRing.VRING_PACKED_DESC_EVENT.size);
  });

  it('§4.1.4.3 the common configuration had 56 bytes in 1.0, 60 in 1.2 and has 64', () => {
    expect(virtioPci.VIRTIO_PCI_COMMON_CFG_SIZE_1_0).toBe(56);
    expect(virtioPci.VIRTIO_PCI_COMMON_CFG_SIZE_1_2).toBe(60);
    expect(virtioPci.VIRTIO_PCI_COMMON_CFG.size).toBe(64);
  });

  it('§5.1.2 receive queues are even, transmit queues odd, the control queue last', () => {
    const pairs = [0, 1, 2].map((i) => [
      virtioNet.virtioNetReceiveQueue(i),
      virtioNet.virtioNetTransmitQueue(i),
    ]);
    expect(pairs).toEqual([
      [0, 1],
      [2, 3],
      [4, 5],
    ]);
    expect(virtioNet.virtioNetControlQueue(3)).toBe(6);
  });

  it('§5.2.4 a sector has 512 bytes', () => {
    expect(1 << virtioBlk.VIRTIO_BLK_SECTOR_SHIFT).toBe(virtioBlk.VIRTIO_BLK_SECTOR_SIZE);
  });
});

describe('pci', () => {
  it('the header layout has each register where pci_regs.h has it', () => {
    const { offset } = pci.PCI_HEADER;
    expect(offset).toEqual({
      vendor_id: pci.PCI_VENDOR_ID,
      device_id: pci.PCI_DEVICE_ID,
      command: pci.PCI_COMMAND,
      status: pci.PCI_STATUS,
      revision_id: pci.PCI_REVISION_ID,
      class_prog: pci.PCI_CLASS_PROG,
      class_device: pci.PCI_CLASS_DEVICE,
      cache_line_size: pci.PCI_CACHE_LINE_SIZE,
      latency_timer: pci.PCI_LATENCY_TIMER,
      header_type: pci.PCI_HEADER_TYPE,
      bist: pci.PCI_BIST,
      base_address: pci.PCI_BASE_ADDRESS_0,
      cardbus_cis: pci.PCI_CARDBUS_CIS,
      subsystem_vendor_id: pci.PCI_SUBSYSTEM_VENDOR_ID,
      subsystem_id: pci.PCI_SUBSYSTEM_ID,
      rom_address: pci.PCI_ROM_ADDRESS,
      capability_list: pci.PCI_CAPABILITY_LIST,
      reserved: pci.PCI_CAPABILITY_LIST + 1,
      interrupt_line: pci.PCI_INTERRUPT_LINE,
      interrupt_pin: pci.PCI_INTERRUPT_PIN,
      min_gnt: pci.PCI_MIN_GNT,
      max_lat: pci.PCI_MAX_LAT,
    });
    expect(pci.PCI_HEADER.size).toBe(pci.PCI_STD_HEADER_SIZEOF);
    expect(offset.base_address + pci.PCI_HEADER.width.base_address).toBe(pci.PCI_BASE_ADDRESS_5 + 4);
  });

  it('the MSI-X layouts have each register where pci_regs.h has it', () => {
    expect(pci.PCI_MSIX_CAP.offset).toEqual({
      cap_id: pci.PCI_CAP_LIST_ID,
      cap_next: pci.PCI_CAP_LIST_NEXT,
      flags: pci.PCI_MSIX_FLAGS,
      table: pci.PCI_MSIX_TABLE,
      pba: pci.PCI_MSIX_PBA,
    });
    expect(pci.PCI_MSIX_CAP.size).toBe(pci.PCI_CAP_MSIX_SIZEOF);
    expect(pci.PCI_MSIX_ENTRY.offset).toEqual({
      lower_addr: pci.PCI_MSIX_ENTRY_LOWER_ADDR,
      upper_addr: pci.PCI_MSIX_ENTRY_UPPER_ADDR,
      data: pci.PCI_MSIX_ENTRY_DATA,
      vector_ctrl: pci.PCI_MSIX_ENTRY_VECTOR_CTRL,
    });
    expect(pci.PCI_MSIX_ENTRY.size).toBe(pci.PCI_MSIX_ENTRY_SIZE);
  });
});

describe('xen', () => {
  it('a page is 1 << 12 bytes', () => {
    expect(1 << xen.XEN_PAGE_SHIFT).toBe(xen.XEN_PAGE_SIZE);
    expect(xen.XEN_PAGE_OFFSET_MASK).toBe(0xfff);
  });

  it('2-level event channels: word bits times words, in a bitmap of one selector', () => {
    const { EVTCHN_2L_WORD_BITS: bits, EVTCHN_2L_WORD_COUNT: words, SHARED_INFO, VCPU_INFO } = eventChannel;
    expect(bits * words).toBe(eventChannel.EVTCHN_2L_NR_CHANNELS);
    expect(SHARED_INFO.width.evtchn_pending).toBe(eventChannel.EVTCHN_2L_NR_CHANNELS / 8);
    expect(SHARED_INFO.width.evtchn_mask).toBe(eventChannel.EVTCHN_2L_NR_CHANNELS / 8);
    expect(VCPU_INFO.width.evtchn_pending_sel * 8).toBe(words);
  });

  it('the shared info page: one vcpu_info after another, then the bitmaps', () => {
    const { SHARED_INFO, VCPU_INFO, vcpuInfoOffset } = eventChannel;
    expect(SHARED_INFO.width.vcpu_info).toBe(VCPU_INFO.size * xen.XEN_LEGACY_MAX_VCPUS);
    expect([vcpuInfoOffset(0), vcpuInfoOffset(31)]).toEqual([0, 31 * 64]);
    for (const vcpu of [-1, 32, 0.5]) expect(() => vcpuInfoOffset(vcpu)).toThrow(RangeError);
    expect(SHARED_INFO.size).toBeLessThanOrEqual(xen.XEN_PAGE_SIZE);
  });

  it('FIFO event channels: 1024 words of a page, 128 pages, 16 queues', () => {
    expect(eventChannel.EVTCHN_FIFO_EVENT_WORDS_PER_PAGE).toBe(1024);
    expect(eventChannel.EVTCHN_FIFO_MAX_EVENT_ARRAY_PAGES).toBe(128);
    expect(eventChannel.EVTCHN_FIFO_CONTROL_BLOCK.width.head / eventChannel.EVTCHN_FIFO_EVENT_WORD_SIZE).toBe(
      eventChannel.EVTCHN_FIFO_MAX_QUEUES,
    );
    expect((1 << eventChannel.EVTCHN_FIFO_LINK_BITS) - 1).toBe(eventChannel.EVTCHN_FIFO_LINK_MASK);
  });

  it('grant frames: 512 entries of version 1, 256 of version 2, 2048 status words', () => {
    expect(grantTable.GRANT_ENTRIES_PER_PAGE_V1).toBe(512);
    expect(grantTable.GRANT_ENTRIES_PER_PAGE_V2).toBe(256);
    expect(grantTable.GRANT_STATUSES_PER_PAGE).toBe(2048);
  });

  it('the bit of a grant in a device address is the top one, in 64 bits and in the high half', () => {
    expect(1n << BigInt(grantTable.XEN_GRANT_DMA_ADDR_BIT)).toBe(grantTable.XEN_GRANT_DMA_ADDR_OFF);
    expect(BigInt(grantTable.XEN_GRANT_DMA_ADDR_OFF_HIGH) << 32n).toBe(grantTable.XEN_GRANT_DMA_ADDR_OFF);
  });

  it('the xenstore ring page: both rings and their indices in one page', () => {
    const { XENSTORE_DOMAIN_INTERFACE: ring } = xsWire;
    expect([ring.width.req, ring.width.rsp]).toEqual([xsWire.XENSTORE_RING_SIZE, xsWire.XENSTORE_RING_SIZE]);
    expect(xsWire.XENSTORE_RING_MASK).toBe(0x3ff);
    expect(ring.offset.evtchn_port).toBe(2076);
  });

  it('ioreq: slots of 32 bytes, the direction at its mask', () => {
    expect([0, 1, 127].map(ioreq.ioreqSlotOffset)).toEqual([0, 32, 4064]);
    expect(ioreq.IOREQ_READ << ioreq.IOREQ_DIR_SHIFT).toBe(ioreq.IOREQ_DIR_MASK);
  });
});

describe('vhost-user', () => {
  it.each([
    ['requests', VHOST_USER, 1, 45],
    ['back-end requests', VHOST_USER_BACKEND, 1, 10],
    ['protocol features', VHOST_USER_PROTOCOL_F, 0, 23],
  ])('%s are numbered without a gap', (_what, table, first, last) => {
    expect(Object.values(table)).toEqual(Array.from({ length: last - first + 1 }, (_, i) => first + i));
  });
});

describe('brands', () => {
  it.each([
    ['domid_t', domId, 0xffff],
    ['evtchn_port_t', evtchnPort, 0xffff_ffff],
    ['grant_ref_t', grantRef, 0xffff_ffff],
    ['grant_handle_t', grantHandle, 0xffff_ffff],
  ])('%s has the range of the C type', (name, make, max) => {
    expect([make(0), make(max)]).toEqual([0, max]);
    for (const value of [-1, max + 1, 0.5, NaN])
      expect(() => make(value)).toThrow(`${value} is not a ${name}`);
  });
});
