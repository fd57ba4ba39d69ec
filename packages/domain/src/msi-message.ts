import {
  APIC_VECTOR_MAX,
  APIC_VECTOR_MIN,
  MSI_ADDR_BASE,
  MSI_ADDR_BASE_MASK,
  MSI_ADDR_DESTMODE_LOGIC,
  MSI_ADDR_DEST_ID_MASK,
  MSI_ADDR_DEST_ID_SHIFT,
  MSI_ADDR_REDIRECTION_LOWPRI,
  MSI_DATA_DELIVERY_MODE_MASK,
  MSI_DATA_DELIVERY_MODE_SHIFT,
  MSI_DATA_LEVEL_ASSERT,
  MSI_DATA_TRIGGER_LEVEL,
  MSI_DATA_VECTOR_MASK,
  MSI_DELIVERY_FIXED,
  MSI_DELIVERY_LOWPRI,
  MSI_DEST_BROADCAST,
} from '@virtlab/abi/msi';
import type { MsiMessage } from '@virtlab/virtio-pci';

/** A message that interrupts nobody. */
export const NO_VECTOR = -1;

/** Local APIC of vCPU 0, the only one a domain has: physical id, and logical id in the flat model. */
const APIC_ID = 0;
const APIC_LOGICAL_ID = 1;

/** The message of a vector for vCPU 0: fixed, edge-triggered, physical destination. */
export function msiMessage(vector: number): MsiMessage {
  const destination = APIC_ID << MSI_ADDR_DEST_ID_SHIFT;
  return { addressLow: MSI_ADDR_BASE + destination, addressHigh: 0, data: vector };
}

/**
 * The vector that a message raises on vCPU 0 (SDM 3 §11.11; as Xen's hvm_inject_msi decides), or `NO_VECTOR` for what is none:
 * another address than that of the local APICs (an ordinary write, which a device's message does not become here), another
 * processor's destination, a delivery mode that is neither fixed nor lowest priority, the end of a level, a vector
 * that a message cannot have. With vector 0 Xen takes the destination for a PIRQ bound to an event channel; domains
 * here have none.
 */
export function msiVector(addressLow: number, addressHigh: number, data: number): number {
  if (addressHigh !== 0 || (addressLow & MSI_ADDR_BASE_MASK) >>> 0 !== MSI_ADDR_BASE) return NO_VECTOR;
  if (!isForUs(addressLow)) return NO_VECTOR;
  const mode = (data & MSI_DATA_DELIVERY_MODE_MASK) >>> MSI_DATA_DELIVERY_MODE_SHIFT;
  if (mode !== MSI_DELIVERY_FIXED && mode !== MSI_DELIVERY_LOWPRI) return NO_VECTOR;
  const isDeassert = (data & MSI_DATA_TRIGGER_LEVEL) !== 0 && (data & MSI_DATA_LEVEL_ASSERT) === 0;
  if (isDeassert) return NO_VECTOR;
  const vector = data & MSI_DATA_VECTOR_MASK;
  return vector < APIC_VECTOR_MIN || vector > APIC_VECTOR_MAX ? NO_VECTOR : vector;
}

/** The redirection hint chooses among several processors; it only rules the broadcast out. */
function isForUs(addressLow: number): boolean {
  const destination = (addressLow & MSI_ADDR_DEST_ID_MASK) >>> MSI_ADDR_DEST_ID_SHIFT;
  if ((addressLow & MSI_ADDR_DESTMODE_LOGIC) !== 0) return (destination & APIC_LOGICAL_ID) !== 0;
  if (destination === APIC_ID) return true;
  return destination === MSI_DEST_BROADCAST && (addressLow & MSI_ADDR_REDIRECTION_LOWPRI) === 0;
}
