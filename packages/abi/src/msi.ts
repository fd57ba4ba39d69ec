/**
 * Message-signalled interrupts on x86: Intel 64 and IA-32 Architectures SDM, volume 3, §11.11 (message address and data).
 * Names as in Xen's asm/msi.h.
 */

/** Message address, bits 31 to 20: the local APICs (§11.11.1). */
export const MSI_ADDR_BASE = 0xfee0_0000;
/** Message address: bits that say whether it is one (§11.11.1). */
export const MSI_ADDR_BASE_MASK = 0xfff0_0000;
/** Message address: destination id (§11.11.1). */
export const MSI_ADDR_DEST_ID_SHIFT = 12;
/** Message address: bits of the destination id (§11.11.1). */
export const MSI_ADDR_DEST_ID_MASK = 0x000f_f000;
/** Message address: redirection hint, one of several destinations (§11.11.1). */
export const MSI_ADDR_REDIRECTION_LOWPRI = 0x8;
/** Message address: the destination is logical, else physical (§11.11.1). */
export const MSI_ADDR_DESTMODE_LOGIC = 0x4;
/** Physical destination id of every processor (§11.6.2.1). */
export const MSI_DEST_BROADCAST = 0xff;

/** Message data: vector (§11.11.2). */
export const MSI_DATA_VECTOR_MASK = 0xff;
/** Message data: shift of the delivery mode (§11.11.2). */
export const MSI_DATA_DELIVERY_MODE_SHIFT = 8;
/** Message data: bits of the delivery mode (§11.11.2). */
export const MSI_DATA_DELIVERY_MODE_MASK = 0x700;
/** Delivery mode: to all processors of the destination (§11.11.2). */
export const MSI_DELIVERY_FIXED = 0;
/** Delivery mode: to the processor of the destination with the lowest priority (§11.11.2). */
export const MSI_DELIVERY_LOWPRI = 1;
/** Message data: with level trigger, assert (§11.11.2). */
export const MSI_DATA_LEVEL_ASSERT = 0x4000;
/** Message data: level trigger, else edge (§11.11.2). */
export const MSI_DATA_TRIGGER_LEVEL = 0x8000;

/** Vectors below are the processor's exceptions, and one that a message may not have (§11.5.2). */
export const APIC_VECTOR_MIN = 0x10;
/** Highest vector that a message can have (§11.11.2). */
export const APIC_VECTOR_MAX = 0xfe;
