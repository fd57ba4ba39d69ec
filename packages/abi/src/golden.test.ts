/**
 * Holds the declarations against `abi.golden.json`, which tools/abi-golden makes from Debian's C headers: every entry
 * of the file must be met, and every export must be in the file or stand in `not-in-headers.json` with the reason why it is not.
 */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import * as eventChannel from './event-channel.ts';
import * as grantTable from './grant-table.ts';
import * as ioreq from './ioreq.ts';
import type { FieldTypes, Layout } from './layout.ts';
import * as pci from './pci.ts';
import * as vhostUser from './vhost-user.ts';
import * as virtioBlk from './virtio-blk.ts';
import * as virtioNetCtrl from './virtio-net-ctrl.ts';
import * as virtioNet from './virtio-net.ts';
import * as virtioPci from './virtio-pci.ts';
import * as virtioRing from './virtio-ring.ts';
import * as virtioRng from './virtio-rng.ts';
import * as virtioXenbusRegisters from './virtio-xenbus-registers.ts';
import * as virtioXenbus from './virtio-xenbus.ts';
import * as virtio from './virtio.ts';
import * as xen from './xen.ts';
import * as xenbus from './xenbus.ts';
import * as xsWire from './xs-wire.ts';

type Table = Readonly<Record<string, number>>;
interface Header {
  readonly constants: Table;
  readonly structs?: Readonly<Record<string, { readonly size: number; readonly offsets: Table }>>;
  readonly vring_size?: Table;
  readonly xsd_errors?: Table;
  readonly bit_fields?: Table;
}
const golden = JSON.parse(readFileSync(new URL('abi.golden.json', import.meta.url), 'utf8')) as {
  readonly headers: Readonly<Record<string, Header>>;
};

type Exports = Readonly<Record<string, unknown>>;
const MODULES: Readonly<Record<string, Exports>> = {
  'event-channel': eventChannel,
  'grant-table': grantTable,
  ioreq,
  pci,
  'vhost-user': vhostUser,
  virtio,
  'virtio-blk': virtioBlk,
  'virtio-net': virtioNet,
  'virtio-net-ctrl': virtioNetCtrl,
  'virtio-pci': virtioPci,
  'virtio-ring': virtioRing,
  'virtio-rng': virtioRng,
  'virtio-xenbus': virtioXenbus,
  'virtio-xenbus-registers': virtioXenbusRegisters,
  xen,
  xenbus,
  'xs-wire': xsWire,
};

const prefixed = (prefix: string, table: Table): Table =>
  Object.fromEntries(Object.entries(table).map(([name, value]) => [`${prefix}${name}`, value]));

const capOffset = virtioPci.VIRTIO_PCI_CAP.offset;
const commonOffset = virtioPci.VIRTIO_PCI_COMMON_CFG.offset;

/** C names that we have under another name, most often as the offset of a layout. */
const RENAMED: Table = {
  ...prefixed('XEN_', xen.XEN_ERRNO),
  ...prefixed('XenbusState', xenbus.XenbusState),
  VIRTIO_PCI_CAP_VNDR: capOffset.cap_vndr,
  VIRTIO_PCI_CAP_NEXT: capOffset.cap_next,
  VIRTIO_PCI_CAP_LEN: capOffset.cap_len,
  VIRTIO_PCI_CAP_CFG_TYPE: capOffset.cfg_type,
  VIRTIO_PCI_CAP_BAR: capOffset.bar,
  VIRTIO_PCI_CAP_OFFSET: capOffset.offset,
  VIRTIO_PCI_CAP_LENGTH: capOffset.length,
  VIRTIO_PCI_NOTIFY_CAP_MULT: virtioPci.VIRTIO_PCI_NOTIFY_CAP.offset.notify_off_multiplier,
  VIRTIO_PCI_COMMON_DFSELECT: commonOffset.device_feature_select,
  VIRTIO_PCI_COMMON_DF: commonOffset.device_feature,
  VIRTIO_PCI_COMMON_GFSELECT: commonOffset.driver_feature_select,
  VIRTIO_PCI_COMMON_GF: commonOffset.driver_feature,
  VIRTIO_PCI_COMMON_MSIX: commonOffset.config_msix_vector,
  VIRTIO_PCI_COMMON_NUMQ: commonOffset.num_queues,
  VIRTIO_PCI_COMMON_STATUS: commonOffset.device_status,
  VIRTIO_PCI_COMMON_CFGGENERATION: commonOffset.config_generation,
  VIRTIO_PCI_COMMON_Q_SELECT: commonOffset.queue_select,
  VIRTIO_PCI_COMMON_Q_SIZE: commonOffset.queue_size,
  VIRTIO_PCI_COMMON_Q_MSIX: commonOffset.queue_msix_vector,
  VIRTIO_PCI_COMMON_Q_ENABLE: commonOffset.queue_enable,
  VIRTIO_PCI_COMMON_Q_NOFF: commonOffset.queue_notify_off,
  VIRTIO_PCI_COMMON_Q_DESCLO: commonOffset.queue_desc,
  VIRTIO_PCI_COMMON_Q_DESCHI: commonOffset.queue_desc + 4,
  VIRTIO_PCI_COMMON_Q_AVAILLO: commonOffset.queue_driver,
  VIRTIO_PCI_COMMON_Q_AVAILHI: commonOffset.queue_driver + 4,
  VIRTIO_PCI_COMMON_Q_USEDLO: commonOffset.queue_device,
  VIRTIO_PCI_COMMON_Q_USEDHI: commonOffset.queue_device + 4,
  VIRTIO_PCI_COMMON_Q_NDATA: commonOffset.queue_notif_config_data,
  VIRTIO_PCI_COMMON_Q_RESET: commonOffset.queue_reset,
  ETH_ALEN: virtioNet.VIRTIO_NET_MAC_SIZE,
  ETH_MIN_MTU: virtioNet.VIRTIO_NET_MTU_MIN,
  ETH_MAX_MTU: virtioNet.VIRTIO_NET_MTU_MAX,
  DUPLEX_HALF: virtioNet.VIRTIO_NET_DUPLEX_HALF,
  DUPLEX_FULL: virtioNet.VIRTIO_NET_DUPLEX_FULL,
  DUPLEX_UNKNOWN: virtioNet.VIRTIO_NET_DUPLEX_UNKNOWN,
  SPEED_UNKNOWN: virtioNet.VIRTIO_NET_SPEED_UNKNOWN,
  'VIRTIO_PCI_CONFIG_OFF(0)': virtioPci.VIRTIO_PCI_CONFIG_OFF(false),
  'VIRTIO_PCI_CONFIG_OFF(1)': virtioPci.VIRTIO_PCI_CONFIG_OFF(true),
  'sizeof(grant_status_t)': grantTable.GRANT_STATUS_SIZE,
};

type AnyLayout = Layout<FieldTypes>;

interface Match {
  /** The layout that a C structure of this name has; several if the structure is a union. */
  readonly layouts: readonly AnyLayout[];
  /** C field to our field, where the spelling differs, or to a plain offset. */
  readonly fields?: Readonly<Record<string, string | number>>;
  /** `sizeof` to expect, where ours is larger (fields added since); or the C field that starts where our prefix ends. */
  readonly size?: number | string;
  /** Our fields that the headers lack, with the reason. */
  readonly absent?: Readonly<Record<string, string>>;
}

/** A layout that starts with another one; the C structure has that one as its first member. */
const inherited = (base: AnyLayout): Readonly<Record<string, string>> =>
  Object.fromEntries(Object.keys(base.fields).map((field) => [field, 'checked with the first member']));

const { VIRTIO_PCI_CAP, VIRTIO_PCI_COMMON_CFG } = virtioPci;
const { VIRTIO_BLK_CONFIG } = virtioBlk;
const { VIRTIO_NET_CONFIG, VIRTIO_NET_HDR_V1 } = virtioNet;
const { GRANT_ENTRY_V2_FULL_PAGE: fullPage, GRANT_ENTRY_V2_SUB_PAGE: subPage } = grantTable;
const { GRANT_ENTRY_V2_TRANSITIVE: transitive } = grantTable;
const zoned = 'VIRTIO 1.3 §5.2.4, Linux 6.3';

const STRUCTS: Readonly<Record<string, Match>> = {
  vring_desc: { layouts: [virtioRing.VRING_DESC] },
  vring_avail: { layouts: [virtioRing.VRING_AVAIL], fields: { ring: virtioRing.VRING_AVAIL_RING_OFFSET } },
  vring_used: { layouts: [virtioRing.VRING_USED], fields: { ring: virtioRing.VRING_USED_RING_OFFSET } },
  vring_used_elem: { layouts: [virtioRing.VRING_USED_ELEM] },
  vring_packed_desc: { layouts: [virtioRing.VRING_PACKED_DESC] },
  vring_packed_desc_event: { layouts: [virtioRing.VRING_PACKED_DESC_EVENT] },
  virtio_pci_cap: { layouts: [VIRTIO_PCI_CAP] },
  virtio_pci_cap64: {
    layouts: [virtioPci.VIRTIO_PCI_CAP64],
    fields: { cap: 0 },
    absent: inherited(VIRTIO_PCI_CAP),
  },
  virtio_pci_notify_cap: {
    layouts: [virtioPci.VIRTIO_PCI_NOTIFY_CAP],
    fields: { cap: 0 },
    absent: inherited(VIRTIO_PCI_CAP),
  },
  virtio_pci_cfg_cap: {
    layouts: [virtioPci.VIRTIO_PCI_CFG_CAP],
    fields: { cap: 0 },
    absent: inherited(VIRTIO_PCI_CAP),
  },
  virtio_pci_common_cfg: {
    layouts: [VIRTIO_PCI_COMMON_CFG],
    fields: {
      guest_feature_select: 'driver_feature_select',
      guest_feature: 'driver_feature',
      msix_config: 'config_msix_vector',
      queue_desc_lo: 'queue_desc',
      queue_desc_hi: commonOffset.queue_desc + 4,
      queue_avail_lo: 'queue_driver',
      queue_avail_hi: commonOffset.queue_driver + 4,
      queue_used_lo: 'queue_device',
      queue_used_hi: commonOffset.queue_device + 4,
    },
    size: virtioPci.VIRTIO_PCI_COMMON_CFG_SIZE_1_0,
    absent: {
      queue_notif_config_data: 'checked as VIRTIO_PCI_COMMON_Q_NDATA',
      queue_reset: 'checked as VIRTIO_PCI_COMMON_Q_RESET',
      admin_queue_index: 'VIRTIO 1.3 §4.1.4.3, newer than Linux 6.1',
      admin_queue_num: 'VIRTIO 1.3 §4.1.4.3, newer than Linux 6.1',
    },
  },
  virtio_blk_config: {
    layouts: [VIRTIO_BLK_CONFIG],
    fields: {
      'geometry.cylinders': 'cylinders',
      'geometry.heads': 'heads',
      'geometry.sectors': 'sectors',
      wce: 'writeback',
      unused: 'unused0',
    },
    size: VIRTIO_BLK_CONFIG.offset.zone_sectors,
    absent: {
      zone_sectors: zoned,
      max_open_zones: zoned,
      max_active_zones: zoned,
      max_append_sectors: zoned,
      write_granularity: zoned,
      model: zoned,
      unused2: zoned,
    },
  },
  virtio_blk_outhdr: { layouts: [virtioBlk.VIRTIO_BLK_OUTHDR], fields: { ioprio: 'reserved' } },
  virtio_blk_discard_write_zeroes: { layouts: [virtioBlk.VIRTIO_BLK_DISCARD_WRITE_ZEROES] },
  virtio_net_config: {
    layouts: [VIRTIO_NET_CONFIG],
    size: VIRTIO_NET_CONFIG.offset.supported_tunnel_types,
    absent: { supported_tunnel_types: 'VIRTIO 1.3 §5.1.4' },
  },
  virtio_net_hdr: { layouts: [virtioNet.VIRTIO_NET_HDR] },
  virtio_net_hdr_v1: { layouts: [VIRTIO_NET_HDR_V1] },
  virtio_net_hdr_v1_hash: {
    layouts: [virtioNet.VIRTIO_NET_HDR_V1_HASH],
    fields: { hdr: 0, padding: 'padding_reserved' },
    absent: inherited(VIRTIO_NET_HDR_V1),
  },
  virtio_net_ctrl_hdr: { layouts: [virtioNetCtrl.VIRTIO_NET_CTRL_HDR], fields: { cmd: 'command' } },
  virtio_net_ctrl_mac: {
    layouts: [virtioNetCtrl.VIRTIO_NET_CTRL_MAC_TABLE],
    fields: { macs: virtioNetCtrl.VIRTIO_NET_CTRL_MAC_TABLE.size },
  },
  virtio_net_ctrl_mq: { layouts: [virtioNetCtrl.VIRTIO_NET_CTRL_MQ_PAIRS] },
  virtio_net_rss_config: {
    layouts: [virtioNetCtrl.VIRTIO_NET_RSS_CONFIG],
    fields: { indirection_table: virtioNetCtrl.VIRTIO_NET_RSS_CONFIG.size },
    size: 'indirection_table',
  },
  virtio_net_hash_config: {
    layouts: [virtioNetCtrl.VIRTIO_NET_HASH_CONFIG],
    fields: { hash_key_length: virtioNetCtrl.VIRTIO_NET_HASH_CONFIG.size },
    size: 'hash_key_length',
  },
  virtio_net_ctrl_coal_tx: {
    layouts: [virtioNetCtrl.VIRTIO_NET_CTRL_COAL],
    fields: { tx_max_packets: 'max_packets', tx_usecs: 'max_usecs' },
  },
  virtio_net_ctrl_coal_rx: {
    layouts: [virtioNetCtrl.VIRTIO_NET_CTRL_COAL],
    fields: { rx_max_packets: 'max_packets', rx_usecs: 'max_usecs' },
  },
  vhost_vring_state: { layouts: [vhostUser.VHOST_VRING_STATE] },
  vhost_vring_addr: {
    layouts: [vhostUser.VHOST_VRING_ADDR],
    fields: {
      desc_user_addr: 'desc',
      used_user_addr: 'used',
      avail_user_addr: 'avail',
      log_guest_addr: 'log',
    },
  },
  vhost_iotlb_msg: {
    layouts: [vhostUser.VHOST_IOTLB_MSG],
    fields: { uaddr: 'user_addr', perm: 'permissions' },
  },
  vcpu_info: { layouts: [eventChannel.VCPU_INFO] },
  shared_info: { layouts: [eventChannel.SHARED_INFO] },
  evtchn_alloc_unbound: { layouts: [eventChannel.EVTCHN_ALLOC_UNBOUND] },
  evtchn_bind_interdomain: { layouts: [eventChannel.EVTCHN_BIND_INTERDOMAIN] },
  evtchn_bind_virq: { layouts: [eventChannel.EVTCHN_BIND_VIRQ] },
  evtchn_bind_ipi: { layouts: [eventChannel.EVTCHN_BIND_IPI] },
  evtchn_status: {
    layouts: [eventChannel.EVTCHN_STATUS],
    fields: { 'u.interdomain.port': eventChannel.EVTCHN_STATUS.offset.u + 4 },
  },
  evtchn_init_control: { layouts: [eventChannel.EVTCHN_INIT_CONTROL] },
  evtchn_set_priority: { layouts: [eventChannel.EVTCHN_SET_PRIORITY] },
  evtchn_fifo_control_block: { layouts: [eventChannel.EVTCHN_FIFO_CONTROL_BLOCK] },
  grant_entry_v1: { layouts: [grantTable.GRANT_ENTRY_V1] },
  grant_entry_v2: {
    layouts: [fullPage, subPage, transitive],
    fields: {
      'hdr.flags': 'flags',
      'hdr.domid': 'domid',
      'full_page.pad0': fullPage.offset.pad0,
      'full_page.frame': fullPage.offset.frame,
      'sub_page.page_off': subPage.offset.page_off,
      'sub_page.length': subPage.offset.length,
      'sub_page.frame': subPage.offset.frame,
      'transitive.trans_domid': transitive.offset.trans_domid,
      'transitive.pad0': transitive.offset.pad0,
      'transitive.gref': transitive.offset.gref,
    },
    absent: {
      frame: 'checked as full_page.frame and sub_page.frame',
      pad0: 'checked as full_page.pad0 and transitive.pad0',
      page_off: 'checked as sub_page.page_off',
      length: 'checked as sub_page.length',
      trans_domid: 'checked as transitive.trans_domid',
      gref: 'checked as transitive.gref',
      spacer: 'the rest of the union',
    },
  },
  gnttab_map_grant_ref: { layouts: [grantTable.GNTTAB_MAP_GRANT_REF] },
  gnttab_unmap_grant_ref: { layouts: [grantTable.GNTTAB_UNMAP_GRANT_REF] },
  gnttab_copy: {
    layouts: [grantTable.GNTTAB_COPY],
    absent: {
      source_pad: 'padding of struct gnttab_copy_ptr',
      dest_pad: 'padding of struct gnttab_copy_ptr',
    },
  },
  gnttab_query_size: { layouts: [grantTable.GNTTAB_QUERY_SIZE] },
  gnttab_set_version: { layouts: [grantTable.GNTTAB_SET_VERSION] },
  xsd_sockmsg: { layouts: [xsWire.XSD_SOCKMSG] },
  xenstore_domain_interface: {
    layouts: [xsWire.XENSTORE_DOMAIN_INTERFACE],
    size: xsWire.XENSTORE_DOMAIN_INTERFACE.offset.evtchn_port,
    absent: { evtchn_port: 'xs_wire.h, newer than Xen 4.17' },
  },
  ioreq: { layouts: [ioreq.IOREQ], absent: { state_bits: 'bit-fields, checked as such' } },
};

/** Exports that the headers lack, by reason. */
const notInHeaders = JSON.parse(
  readFileSync(new URL('not-in-headers.json', import.meta.url), 'utf8'),
) as Readonly<Record<string, readonly string[]>>;

const headers = Object.entries(golden.headers);
const constants = headers.flatMap(([, header]) => Object.entries(header.constants));
const structs = headers.flatMap(([, header]) => Object.entries(header.structs ?? {}));
const exported = new Map(Object.values(MODULES).flatMap((module) => Object.entries(module)));

const isLayout = (value: unknown): value is AnyLayout =>
  typeof value === 'object' && value !== null && 'offset' in value && 'fields' in value;

describe('constants', () => {
  it.each(headers.map(([header, { constants: table }]) => ({ header, table })))('$header', ({ table }) => {
    const ours = Object.fromEntries(
      Object.keys(table).map((name) => [name, RENAMED[name] ?? exported.get(name)]),
    );
    expect(ours).toEqual(table);
  });

  it('no export of one module contradicts another', () => {
    const names = Object.values(MODULES).flatMap((module) => Object.keys(module));
    expect(names.filter((name, i) => names.indexOf(name) !== i)).toEqual([]);
  });

  it('no rename is superfluous', () => {
    const known = new Set(constants.map(([name]) => name));
    expect(Object.keys(RENAMED).filter((name) => !known.has(name))).toEqual([]);
  });
});

describe('structures', () => {
  it.each(structs.map(([name, struct]) => ({ name, struct })))(
    'struct $name: offsets',
    ({ name, struct }) => {
      const match = STRUCTS[name]!;
      const ours = Object.keys(struct.offsets).map((field) => {
        const to = match.fields?.[field] ?? field.replaceAll('.', '_');
        return [field, typeof to === 'number' ? to : match.layouts[0]!.offset[to]];
      });
      expect(Object.fromEntries(ours)).toEqual(struct.offsets);
    },
  );

  it.each(structs.map(([name, struct]) => ({ name, struct })))('struct $name: size', ({ name, struct }) => {
    const { layouts, size } = STRUCTS[name]!;
    const theirs = typeof size === 'string' ? struct.offsets[size] : struct.size;
    const ours = layouts.map((each) => (typeof size === 'number' ? size : each.size));
    expect(new Set(ours)).toEqual(new Set([theirs]));
  });

  it.each(structs.map(([name, struct]) => ({ name, struct })))(
    'struct $name: no field beside',
    ({ name, struct }) => {
      const { layouts, fields, absent } = STRUCTS[name]!;
      const met = new Set(
        Object.keys(struct.offsets).map((field) => fields?.[field] ?? field.replaceAll('.', '_')),
      );
      const ours = new Set(layouts.flatMap((each) => Object.keys(each.fields)));
      expect([...ours].filter((field) => !met.has(field) && absent?.[field] === undefined)).toEqual([]);
      expect(Object.keys(absent ?? {}).filter((field) => !ours.has(field) || met.has(field))).toEqual([]);
    },
  );
});

describe('tables of single headers', () => {
  it('vring_size: the three areas of a split ring make up the legacy ring', () => {
    const align = virtioPci.VIRTIO_PCI_VRING_ALIGN;
    for (const [num, size] of Object.entries(golden.headers['linux/virtio_ring.h']!.vring_size!)) {
      const n = Number(num);
      const driver = virtioRing.vringDescSize(n) + virtioRing.vringAvailSize(n);
      expect(Math.ceil(driver / align) * align + virtioRing.vringUsedSize(n)).toBe(size);
    }
  });

  it('xsd_errors: names and order', () => {
    const table = Object.fromEntries(xsWire.XSD_ERRORS.map((name, i) => [name, i]));
    expect(table).toEqual(golden.headers['xen/io/xs_wire.h']!.xsd_errors);
  });

  it('struct ioreq: place and mask of the bit-fields', () => {
    const at = ioreq.IOREQ.offset.state_bits * 256;
    expect({
      state: at + ioreq.IOREQ_STATE_MASK,
      data_is_ptr: at + ioreq.IOREQ_DATA_IS_PTR_MASK,
      dir: at + ioreq.IOREQ_DIR_MASK,
      df: at + ioreq.IOREQ_DF_MASK,
    }).toEqual(golden.headers['xen/hvm/ioreq.h']!.bit_fields);
  });

  it('GNTST_NAMES: the name at -status is that of the constant', () => {
    const table = Object.fromEntries(grantTable.GNTST_NAMES.map((name, i) => [name, 0 - i]));
    const named = constants.filter(([name]) => name.startsWith('GNTST_'));
    expect(table).toEqual(Object.fromEntries(named));
  });
});

describe('coverage', () => {
  const known = new Set<unknown>([
    ...constants.map(([name]) => name),
    ...Object.values(STRUCTS).flatMap(({ layouts }) => layouts),
    xen.XEN_ERRNO,
    xenbus.XenbusState,
    xsWire.XSD_ERRORS,
    grantTable.GNTST_NAMES,
  ]);
  const excused = new Set(Object.values(notInHeaders).flat());
  const isMet = (name: string, value: unknown): boolean => known.has(name) || known.has(value);
  const data = [...exported].filter(([, value]) => typeof value !== 'function');

  it('every exported constant and layout is in the headers, or named with the reason why not', () => {
    expect(
      data.filter(([name, value]) => !isMet(name, value) && !excused.has(name)).map(([name]) => name),
    ).toEqual([]);
  });

  it('nothing is excused that the headers have or that is not exported', () => {
    const idle = [...excused].filter((name) => !exported.has(name) || isMet(name, exported.get(name)));
    expect(idle).toEqual([]);
  });

  it('every structure of the table is in the headers', () => {
    expect(Object.keys(STRUCTS).toSorted()).toEqual(structs.map(([name]) => name).toSorted());
  });

  it('layouts are frozen', () => {
    const loose = data.filter(
      ([, value]) => isLayout(value) && !(Object.isFrozen(value) && Object.isFrozen(value.offset)),
    );
    expect(loose.map(([name]) => name)).toEqual([]);
  });
});
