import {
  PCI_COMMAND_MASTER,
  PCI_COMMAND_MEMORY,
  PCI_DEVICE_ID,
  PCI_HEADER_TYPE,
  PCI_HEADER_TYPE_MASK,
  PCI_HEADER_TYPE_NORMAL,
  PCI_SUBSYSTEM_ID,
  PCI_VENDOR_ID,
} from '@virtlab/abi/pci';
import {
  VIRTIO_PCI_DEVICE_ID_BASE,
  VIRTIO_PCI_VENDOR_ID,
  VIRTIO_TRANS_ID_NET,
} from '@virtlab/abi/virtio-pci';
import type { AioContext } from '@virtlab/aio';
import type { DmaMapper } from '@virtlab/guest-memory';
import { type DriverLink, TransportError } from '@virtlab/virtio';
import { readMemoryBars } from './base-address.ts';
import { CallRouting } from './call-routing.ts';
import { findStructures } from './capabilities.ts';
import { CommonRegisters } from './common-registers.ts';
import type { KickPath } from './doorbells.ts';
import { PciDriverTransport, type VirtioPciDriverTransport } from './driver-transport.ts';
import type { InterruptController } from './interrupt-controller.ts';
import { type PciAccess, formatBdf } from './pci-access.ts';
import { PciDevice } from './pci-device.ts';

export interface ConnectVirtioPciOptions {
  readonly access: PciAccess;
  readonly bdf: number;
  readonly interrupts: InterruptController;
  /** Stays the caller's; given on in the link. */
  readonly dma: DmaMapper;
  /** The driver's context: reset timer and `onGone`. Handlers of calls run in that of `interrupts`. */
  readonly aio: AioContext;
  /** Leaner kicks than trapped writes. */
  readonly kicks?: KickPath;
  /** How long a device may take to reset. Default 5000. */
  readonly resetTimeoutMs?: number;
}

export interface VirtioPciLink extends DriverLink {
  readonly transport: VirtioPciDriverTransport;
}

/** Device ids that virtio owns end here (§4.1.2). */
const DEVICE_ID_END = 0x1080;

/**
 * Takes a virtio device over: finds its structures, enables memory decoding and bus mastering, sets up interrupts.
 * BARs must have been placed (`assignBars`). The device is not reset: that is the first step of its driver (§3.1.1).
 *
 * Rejects with `TransportError`: `ENODEV` (nothing there), `ENOTSUP` (no virtio device, or no way for it to
 * interrupt), `EPROTO` (mandatory structures missing). Disposing the link resets the device and stops its bus mastering.
 */
export async function connectVirtioPci(options: ConnectVirtioPciOptions): Promise<VirtioPciLink> {
  const { access, bdf, interrupts, aio, dma } = options;
  let transport: PciDriverTransport | undefined;
  const device = new PciDevice(access, bdf, (reason) => transport?.gone(reason));
  const deviceType = identify(device);
  const structures = findStructures(
    (offset) => access.configRead(bdf, offset, 4),
    readMemoryBars(access, bdf),
  );
  device.changeCommand(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 0);
  try {
    const queueCount = new CommonRegisters(device, structures.common.address).read('num_queues');
    transport = new PciDriverTransport({
      device,
      deviceType,
      queueCount,
      structures,
      routing: new CallRouting(device, structures, interrupts, queueCount),
      aio,
      kicks: options.kicks,
      resetTimeoutMs: options.resetTimeoutMs ?? 5000,
    });
  } catch (error) {
    device.changeCommand(0, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    throw error;
  }
  const connected = transport;
  return { transport: connected, dma, [Symbol.asyncDispose]: () => connected[Symbol.asyncDispose]() };
}

/**
 * §4.1.2.1: modern ids are the device type plus 0x1040; transitional devices (0x1000–0x103f) also have the modern
 * interface, and their type in the subsystem id, as Linux reads it.
 */
function identify(device: PciDevice): number {
  const where = formatBdf(device.bdf);
  device.requirePresent();
  const vendorId = device.readConfig(PCI_VENDOR_ID, 2);
  const deviceId = device.readConfig(PCI_DEVICE_ID, 2);
  const isVirtio =
    vendorId === VIRTIO_PCI_VENDOR_ID && deviceId >= VIRTIO_TRANS_ID_NET && deviceId < DEVICE_ID_END;
  const headerType = device.readConfig(PCI_HEADER_TYPE, 1) & PCI_HEADER_TYPE_MASK;
  if (!isVirtio || headerType !== PCI_HEADER_TYPE_NORMAL) {
    throw new TransportError('ENOTSUP', `${where} is no virtio device: ${hex(vendorId)}:${hex(deviceId)}`);
  }
  return deviceId >= VIRTIO_PCI_DEVICE_ID_BASE
    ? deviceId - VIRTIO_PCI_DEVICE_ID_BASE
    : device.readConfig(PCI_SUBSYSTEM_ID, 2);
}

function hex(value: number): string {
  return value.toString(16).padStart(4, '0');
}
