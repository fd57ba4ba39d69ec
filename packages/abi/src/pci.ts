/**
 * PCI Local Bus Specification 3.0 (PCI): configuration header (§6.1, §6.2), capabilities (§6.7), MSI-X (§6.8.2).
 * Header: linux/pci_regs.h.
 */
import { type Layout, layout } from './layout.ts';

/** Bytes of conventional configuration space (PCI §6.1). */
export const PCI_CFG_SPACE_SIZE = 256;
/** Bytes of extended configuration space (PCI Express §7.2). */
export const PCI_CFG_SPACE_EXP_SIZE = 4096;
/** Bytes of the standard header (PCI §6.1). */
export const PCI_STD_HEADER_SIZEOF = 64;
/** Base address registers of a type 0 header (PCI §6.2.5.1). */
export const PCI_STD_NUM_BARS = 6;

/** Vendor id, 16 bits (PCI §6.2.1). */
export const PCI_VENDOR_ID = 0x00;
/** Device id, 16 bits (PCI §6.2.1). */
export const PCI_DEVICE_ID = 0x02;
/** Command register, 16 bits (PCI §6.2.2). */
export const PCI_COMMAND = 0x04;
/** Status register, 16 bits, write one to clear (PCI §6.2.3). */
export const PCI_STATUS = 0x06;
/** Class in the high 24 bits, revision in the low 8 (PCI §6.2.1). */
export const PCI_CLASS_REVISION = 0x08;
/** Revision id, 8 bits (PCI §6.2.1). */
export const PCI_REVISION_ID = 0x08;
/** Programming interface, 8 bits (PCI §6.2.1). */
export const PCI_CLASS_PROG = 0x09;
/** Class and subclass, 16 bits (PCI §6.2.1). */
export const PCI_CLASS_DEVICE = 0x0a;
/** Cache line size, 8 bits (PCI §6.2.4). */
export const PCI_CACHE_LINE_SIZE = 0x0c;
/** Latency timer, 8 bits (PCI §6.2.4). */
export const PCI_LATENCY_TIMER = 0x0d;
/** Header type, 8 bits (PCI §6.2.1). */
export const PCI_HEADER_TYPE = 0x0e;
/** Built-in self test, 8 bits (PCI §6.2.4). */
export const PCI_BIST = 0x0f;
/** First base address register, 32 bits (PCI §6.2.5.1). */
export const PCI_BASE_ADDRESS_0 = 0x10;
/** Second base address register (PCI §6.2.5.1). */
export const PCI_BASE_ADDRESS_1 = 0x14;
/** Third base address register (PCI §6.2.5.1). */
export const PCI_BASE_ADDRESS_2 = 0x18;
/** Fourth base address register (PCI §6.2.5.1). */
export const PCI_BASE_ADDRESS_3 = 0x1c;
/** Fifth base address register (PCI §6.2.5.1). */
export const PCI_BASE_ADDRESS_4 = 0x20;
/** Sixth base address register (PCI §6.2.5.1). */
export const PCI_BASE_ADDRESS_5 = 0x24;
/** CardBus pointer, 32 bits (PCI §6.2.4). */
export const PCI_CARDBUS_CIS = 0x28;
/** Subsystem vendor id, 16 bits (PCI §6.2.4). */
export const PCI_SUBSYSTEM_VENDOR_ID = 0x2c;
/** Subsystem id, 16 bits (PCI §6.2.4). */
export const PCI_SUBSYSTEM_ID = 0x2e;
/** Expansion ROM base address, 32 bits (PCI §6.2.5.2). */
export const PCI_ROM_ADDRESS = 0x30;
/** Offset of the first capability, 8 bits (PCI §6.7). */
export const PCI_CAPABILITY_LIST = 0x34;
/** Interrupt line, 8 bits, meaning left to software (PCI §6.2.4). */
export const PCI_INTERRUPT_LINE = 0x3c;
/** Interrupt pin, 8 bits: 0 none, 1 INTA# (PCI §6.2.4). */
export const PCI_INTERRUPT_PIN = 0x3d;
/** Minimum grant, 8 bits (PCI §6.2.4). */
export const PCI_MIN_GNT = 0x3e;
/** Maximum latency, 8 bits (PCI §6.2.4). */
export const PCI_MAX_LAT = 0x3f;

/** Class and subclass: SCSI storage; virtio block and SCSI devices (PCI appendix D; linux/pci_ids.h). */
export const PCI_CLASS_STORAGE_SCSI = 0x0100;
/** Class and subclass: other storage (PCI appendix D). */
export const PCI_CLASS_STORAGE_OTHER = 0x0180;
/** Class and subclass: Ethernet (PCI appendix D). */
export const PCI_CLASS_NETWORK_ETHERNET = 0x0200;
/** Class and subclass: other display controller (PCI appendix D). */
export const PCI_CLASS_DISPLAY_OTHER = 0x0380;
/** Class and subclass: audio (PCI appendix D). */
export const PCI_CLASS_MULTIMEDIA_AUDIO = 0x0401;
/** Class and subclass: other communication controller (PCI appendix D). */
export const PCI_CLASS_COMMUNICATION_OTHER = 0x0780;
/** Class and subclass: other input device (PCI appendix D). */
export const PCI_CLASS_INPUT_OTHER = 0x0980;
/** Class and subclass of a device that fits nowhere (PCI appendix D). */
export const PCI_CLASS_OTHERS = 0x00ff;

/** Command: respond in I/O space (PCI §6.2.2). */
export const PCI_COMMAND_IO = 0x1;
/** Command: respond in memory space (PCI §6.2.2). */
export const PCI_COMMAND_MEMORY = 0x2;
/** Command: bus mastering; without it a device may neither DMA nor send MSI-X (PCI §6.2.2). */
export const PCI_COMMAND_MASTER = 0x4;
/** Command: parity error response (PCI §6.2.2). */
export const PCI_COMMAND_PARITY = 0x40;
/** Command: SERR# enable (PCI §6.2.2). */
export const PCI_COMMAND_SERR = 0x100;
/** Command: do not assert INTx# (PCI §6.2.2). */
export const PCI_COMMAND_INTX_DISABLE = 0x400;
/** Status: INTx# is wanted, whether disabled or not (PCI §6.2.3). */
export const PCI_STATUS_INTERRUPT = 0x08;
/** Status: there is a capability list (PCI §6.2.3). */
export const PCI_STATUS_CAP_LIST = 0x10;

/** Header type: which layout (PCI §6.2.1). */
export const PCI_HEADER_TYPE_MASK = 0x7f;
/** Header type 0: a device (PCI §6.2.1). */
export const PCI_HEADER_TYPE_NORMAL = 0;
/** Header type: the device has several functions (PCI §6.2.1). */
export const PCI_HEADER_TYPE_MULTI_FUNCTION = 0x80;

/** BAR bit 0: set for I/O space (PCI §6.2.5.1). */
export const PCI_BASE_ADDRESS_SPACE = 0x01;
/** BAR in I/O space (PCI §6.2.5.1). */
export const PCI_BASE_ADDRESS_SPACE_IO = 0x01;
/** BAR in memory space (PCI §6.2.5.1). */
export const PCI_BASE_ADDRESS_SPACE_MEMORY = 0x00;
/** Memory BAR: bits of the type (PCI §6.2.5.1). */
export const PCI_BASE_ADDRESS_MEM_TYPE_MASK = 0x06;
/** Memory BAR: 32-bit address (PCI §6.2.5.1). */
export const PCI_BASE_ADDRESS_MEM_TYPE_32 = 0x00;
/** Memory BAR: 64-bit address, this register and the next (PCI §6.2.5.1). */
export const PCI_BASE_ADDRESS_MEM_TYPE_64 = 0x04;
/** Memory BAR: prefetchable (PCI §6.2.5.1). */
export const PCI_BASE_ADDRESS_MEM_PREFETCH = 0x08;
/** Memory BAR: address bits of the low register (PCI §6.2.5.1). */
export const PCI_BASE_ADDRESS_MEM_MASK = 0xffff_fff0;
/** I/O BAR: address bits (PCI §6.2.5.1). */
export const PCI_BASE_ADDRESS_IO_MASK = 0xffff_fffc;

/** Capability: offset of the id, 8 bits (PCI §6.7). */
export const PCI_CAP_LIST_ID = 0;
/** Capability: offset of the pointer to the next one, 8 bits, 0 ends the list (PCI §6.7). */
export const PCI_CAP_LIST_NEXT = 1;
/** Capability: offset of its flags, 16 bits (PCI §6.7). */
export const PCI_CAP_FLAGS = 2;
/** Capability id: power management (PCI appendix H). */
export const PCI_CAP_ID_PM = 0x01;
/** Capability id: MSI (PCI appendix H). */
export const PCI_CAP_ID_MSI = 0x05;
/** Capability id: vendor-specific, used by virtio (PCI appendix H). */
export const PCI_CAP_ID_VNDR = 0x09;
/** Capability id: PCI Express (PCI appendix H). */
export const PCI_CAP_ID_EXP = 0x10;
/** Capability id: MSI-X (PCI appendix H). */
export const PCI_CAP_ID_MSIX = 0x11;

/** MSI-X capability: offset of message control, 16 bits (PCI §6.8.2.3). */
export const PCI_MSIX_FLAGS = 2;
/** MSI-X message control: table entries minus one, read-only (PCI §6.8.2.3). */
export const PCI_MSIX_FLAGS_QSIZE = 0x07ff;
/** MSI-X message control: mask the whole function (PCI §6.8.2.3). */
export const PCI_MSIX_FLAGS_MASKALL = 0x4000;
/** MSI-X message control: enable (PCI §6.8.2.3). */
export const PCI_MSIX_FLAGS_ENABLE = 0x8000;
/** MSI-X capability: offset of the table's place, 32 bits (PCI §6.8.2.4). */
export const PCI_MSIX_TABLE = 4;
/** Table's place: number of the BAR (PCI §6.8.2.4). */
export const PCI_MSIX_TABLE_BIR = 0x0000_0007;
/** Table's place: offset in the BAR (PCI §6.8.2.4). */
export const PCI_MSIX_TABLE_OFFSET = 0xffff_fff8;
/** MSI-X capability: offset of the pending bit array's place, 32 bits (PCI §6.8.2.5). */
export const PCI_MSIX_PBA = 8;
/** Pending bit array's place: number of the BAR (PCI §6.8.2.5). */
export const PCI_MSIX_PBA_BIR = 0x0000_0007;
/** Pending bit array's place: offset in the BAR (PCI §6.8.2.5). */
export const PCI_MSIX_PBA_OFFSET = 0xffff_fff8;
/** Bytes of the MSI-X capability (PCI §6.8.2). */
export const PCI_CAP_MSIX_SIZEOF = 12;
/** Bytes of an MSI-X table entry (PCI §6.8.2). */
export const PCI_MSIX_ENTRY_SIZE = 16;
/** Table entry: offset of the message address, low half (PCI §6.8.2.6). */
export const PCI_MSIX_ENTRY_LOWER_ADDR = 0x0;
/** Table entry: offset of the message address, high half (PCI §6.8.2.7). */
export const PCI_MSIX_ENTRY_UPPER_ADDR = 0x4;
/** Table entry: offset of the message data (PCI §6.8.2.8). */
export const PCI_MSIX_ENTRY_DATA = 0x8;
/** Table entry: offset of the vector control (PCI §6.8.2.9). */
export const PCI_MSIX_ENTRY_VECTOR_CTRL = 0xc;
/** Vector control: the vector is masked; set after reset (PCI §6.8.2.9). */
export const PCI_MSIX_ENTRY_CTRL_MASKBIT = 0x0000_0001;

const pciHeader = {
  vendor_id: 'le16',
  device_id: 'le16',
  command: 'le16',
  status: 'le16',
  revision_id: 'u8',
  class_prog: 'u8',
  class_device: 'le16',
  cache_line_size: 'u8',
  latency_timer: 'u8',
  header_type: 'u8',
  bist: 'u8',
  base_address: ['le32', 6],
  cardbus_cis: 'le32',
  subsystem_vendor_id: 'le16',
  subsystem_id: 'le16',
  rom_address: 'le32',
  capability_list: 'u8',
  reserved: ['u8', 7],
  interrupt_line: 'u8',
  interrupt_pin: 'u8',
  min_gnt: 'u8',
  max_lat: 'u8',
} as const;
/** The type 0 configuration header (PCI §6.1, figure 6-1). */
export const PCI_HEADER: Layout<typeof pciHeader> = layout(64, pciHeader);

const pciMsixCap = { cap_id: 'u8', cap_next: 'u8', flags: 'le16', table: 'le32', pba: 'le32' } as const;
/** The MSI-X capability (PCI §6.8.2, figure 6-11). */
export const PCI_MSIX_CAP: Layout<typeof pciMsixCap> = layout(12, pciMsixCap);

const pciMsixEntry = { lower_addr: 'le32', upper_addr: 'le32', data: 'le32', vector_ctrl: 'le32' } as const;
/** An MSI-X table entry (PCI §6.8.2, figure 6-12). */
export const PCI_MSIX_ENTRY: Layout<typeof pciMsixEntry> = layout(16, pciMsixEntry);
