/**
 * What a PC has around PCI: configuration mechanism #1 (PCI §3.2.2.3.2), the interrupt routes of Intel's ICH9 (datasheet
 * §5.8, §10.1) and the hotplug registers of QEMU's docs/specs/acpi_pci_hotplug.
 */

/** I/O port, 32 bits: which register of which function the data port reaches (PCI §3.2.2.3.2). */
export const PCI_CONFIG_ADDRESS_PORT = 0xcf8;
/** I/O port, 32 bits and parts of them (PCI §3.2.2.3.2). */
export const PCI_CONFIG_DATA_PORT = 0xcfc;
/** Bit of the address port that makes the data port mean configuration space (PCI §3.2.2.3.2). */
export const PCI_CONFIG_ENABLE = 0x8000_0000;
/** Bits of the address port above which the function's bus, slot and number lie (PCI §3.2.2.3.2). */
export const PCI_CONFIG_BDF_SHIFT = 8;
/** Bits of the address port that name a double word (PCI §3.2.2.3.2). */
export const PCI_CONFIG_REGISTER_MASK = 0xfc;

/** Input of the I/O APIC to which PIRQA leads; the others follow (ICH9 §5.8.2). */
export const ICH9_PIRQ_GSI_BASE = 16;
/** PIRQs that the slots of bus 0 share, from PIRQE on, by slot and pin (QEMU, hw/isa/lpc_ich9.c). */
export const ICH9_SLOT_PIRQ_BASE = 4;
export const ICH9_SLOT_PIRQ_COUNT = 4;

/** I/O ports of the PIIX4's hotplug registers: a write of `1 << slot` here ejects what is in the slot (acpi_pci_hotplug). */
export const ACPI_PCIHP_EJECT_PORT = 0xae08;

/** Bytes of a ROM that ends where the processor begins, and where in it (Intel SDM vol. 3, §10.1.4). */
export const PC_ROM_SIZE = 0x1_0000;
export const PC_ROM_RESET_OFFSET = 0xfff0;
/** Memory from here on is plain RAM: below lie the holes for video and ROMs. */
export const PC_HIGH_MEMORY_BASE = 0x10_0000;
