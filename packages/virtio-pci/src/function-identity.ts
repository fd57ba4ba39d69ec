import {
  PCI_CLASS_COMMUNICATION_OTHER,
  PCI_CLASS_DISPLAY_OTHER,
  PCI_CLASS_INPUT_OTHER,
  PCI_CLASS_MULTIMEDIA_AUDIO,
  PCI_CLASS_NETWORK_ETHERNET,
  PCI_CLASS_OTHERS,
  PCI_CLASS_STORAGE_OTHER,
  PCI_CLASS_STORAGE_SCSI,
} from '@virtlab/abi/pci';
import {
  VIRTIO_ID_9P,
  VIRTIO_ID_BALLOON,
  VIRTIO_ID_BLOCK,
  VIRTIO_ID_CONSOLE,
  VIRTIO_ID_FS,
  VIRTIO_ID_GPU,
  VIRTIO_ID_INPUT,
  VIRTIO_ID_NET,
  VIRTIO_ID_RNG,
  VIRTIO_ID_SCSI,
  VIRTIO_ID_SOUND,
  VIRTIO_ID_VSOCK,
} from '@virtlab/abi/virtio';
import {
  VIRTIO_PCI_ABI_VERSION,
  VIRTIO_PCI_DEVICE_ID_BASE,
  VIRTIO_PCI_REVISION_MIN,
  VIRTIO_PCI_SUBSYSTEM_ID_MIN,
  VIRTIO_TRANS_ID_9P,
  VIRTIO_TRANS_ID_BALLOON,
  VIRTIO_TRANS_ID_BLOCK,
  VIRTIO_TRANS_ID_CONSOLE,
  VIRTIO_TRANS_ID_NET,
  VIRTIO_TRANS_ID_RNG,
  VIRTIO_TRANS_ID_SCSI,
} from '@virtlab/abi/virtio-pci';

/** Which registers a function has: those of VIRTIO 1 (§4.1.4), the legacy ones (§4.1.4.10), or both. */
export type InterfaceKind = 'modern' | 'transitional' | 'legacy';

export interface FunctionIdentity {
  readonly deviceId: number;
  readonly revisionId: number;
  readonly subsystemId: number;
}

/** §4.1.2.1, §4.1.2.3. Throws `RangeError` for a device type that never had a legacy interface. */
export function identityOf(deviceType: number, kind: InterfaceKind): FunctionIdentity {
  if (kind === 'modern') {
    return {
      deviceId: VIRTIO_PCI_DEVICE_ID_BASE + deviceType,
      revisionId: VIRTIO_PCI_REVISION_MIN,
      subsystemId: VIRTIO_PCI_SUBSYSTEM_ID_MIN + deviceType,
    };
  }
  const deviceId = transitionalIds.get(deviceType);
  if (deviceId === undefined) throw new RangeError(`Device type ${deviceType} has no legacy interface`);
  return { deviceId, revisionId: VIRTIO_PCI_ABI_VERSION, subsystemId: deviceType };
}

/** Class and subclass, as QEMU classifies its devices (PCI appendix D). */
export function classOf(deviceType: number): number {
  return classes.get(deviceType) ?? PCI_CLASS_OTHERS;
}

/** §4.1.2: transitional PCI device ids. */
const transitionalIds: ReadonlyMap<number, number> = new Map([
  [VIRTIO_ID_NET, VIRTIO_TRANS_ID_NET],
  [VIRTIO_ID_BLOCK, VIRTIO_TRANS_ID_BLOCK],
  [VIRTIO_ID_BALLOON, VIRTIO_TRANS_ID_BALLOON],
  [VIRTIO_ID_CONSOLE, VIRTIO_TRANS_ID_CONSOLE],
  [VIRTIO_ID_SCSI, VIRTIO_TRANS_ID_SCSI],
  [VIRTIO_ID_RNG, VIRTIO_TRANS_ID_RNG],
  [VIRTIO_ID_9P, VIRTIO_TRANS_ID_9P],
]);

const classes: ReadonlyMap<number, number> = new Map([
  [VIRTIO_ID_NET, PCI_CLASS_NETWORK_ETHERNET],
  [VIRTIO_ID_BLOCK, PCI_CLASS_STORAGE_SCSI],
  [VIRTIO_ID_CONSOLE, PCI_CLASS_COMMUNICATION_OTHER],
  [VIRTIO_ID_SCSI, PCI_CLASS_STORAGE_SCSI],
  [VIRTIO_ID_GPU, PCI_CLASS_DISPLAY_OTHER],
  [VIRTIO_ID_INPUT, PCI_CLASS_INPUT_OTHER],
  [VIRTIO_ID_VSOCK, PCI_CLASS_COMMUNICATION_OTHER],
  [VIRTIO_ID_SOUND, PCI_CLASS_MULTIMEDIA_AUDIO],
  [VIRTIO_ID_FS, PCI_CLASS_STORAGE_OTHER],
]);
