/**
 * The device status field as a device sees it (VIRTIO §2.1, §3.1): which of the bits that a driver wrote come into force.
 */
import {
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FAILED,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_CONFIG_S_NEEDS_RESET,
  VIRTIO_CONFIG_S_SUSPEND,
} from '@virtlab/abi/virtio';

/** The bits in the order in which §3.1.1 sets them; each needs the one before it. */
const STEPS: readonly number[] = [
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_CONFIG_S_DRIVER_OK,
];

/** What the device decides when a step is reached. `featuresOk` false leaves FEATURES_OK clear (§2.2.2). */
export interface StatusSteps {
  featuresOk(): boolean;
  driverOk(): void;
  failed(): void;
}

/**
 * The status after a driver wrote `written` (not 0) over `current`, having run the steps it reached, in order.
 *
 * Bits are sticky, as a driver MUST NOT clear one (§2.1.1); a bit out of order does not come into force; NEEDS_RESET is
 * the device's own, and once it is set nothing but FAILED and a reset is taken (§2.1.2).
 * `apply` is told each bit as it comes into force, before its step runs on.
 */
export function advanceStatus(
  current: number,
  written: number,
  steps: StatusSteps,
  apply: (bit: number) => void,
): void {
  let status = current;
  for (const step of STEPS) {
    if ((status & step) !== 0) continue;
    if ((written & step) === 0 || (current & VIRTIO_CONFIG_S_NEEDS_RESET) !== 0) break;
    if (step === VIRTIO_CONFIG_S_FEATURES_OK && !steps.featuresOk()) break;
    status |= step;
    apply(step);
    if (step === VIRTIO_CONFIG_S_DRIVER_OK) steps.driverOk();
  }
  if ((written & VIRTIO_CONFIG_S_FAILED) !== 0 && (current & VIRTIO_CONFIG_S_FAILED) === 0) {
    apply(VIRTIO_CONFIG_S_FAILED);
    steps.failed();
  }
}

const NAMES: readonly (readonly [number, string])[] = [
  [VIRTIO_CONFIG_S_ACKNOWLEDGE, 'ACKNOWLEDGE'],
  [VIRTIO_CONFIG_S_DRIVER, 'DRIVER'],
  [VIRTIO_CONFIG_S_FEATURES_OK, 'FEATURES_OK'],
  [VIRTIO_CONFIG_S_DRIVER_OK, 'DRIVER_OK'],
  [VIRTIO_CONFIG_S_SUSPEND, 'SUSPEND'],
  [VIRTIO_CONFIG_S_NEEDS_RESET, 'DEVICE_NEEDS_RESET'],
  [VIRTIO_CONFIG_S_FAILED, 'FAILED'],
];

/** `ACKNOWLEDGE|DRIVER`; `0` for a device that was reset. */
export function describeStatus(status: number): string {
  if (status === 0) return '0';
  const known = NAMES.filter(([bit]) => (status & bit) !== 0);
  const rest = known.reduce((left, [bit]) => left & ~bit, status);
  return [...known.map(([, name]) => name), ...(rest === 0 ? [] : [`0x${rest.toString(16)}`])].join('|');
}
