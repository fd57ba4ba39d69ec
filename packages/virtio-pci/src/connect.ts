import {
  PCI_COMMAND_IO,
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
  VIRTIO_PCI_ISR,
  VIRTIO_PCI_VENDOR_ID,
  VIRTIO_TRANS_ID_NET,
} from '@virtlab/abi/virtio-pci';
import type { AioContext } from '@virtlab/aio';
import type { DmaMapper } from '@virtlab/guest-memory';
import { type DriverLink, TransportError } from '@virtlab/virtio';
import { readMemoryBars } from './base-address.ts';
import { CallRouting } from './call-routing.ts';
import { type VirtioStructures, findMsix, findStructures, findWindow } from './capabilities.ts';
import { CommonRegisters } from './common-registers.ts';
import type { KickPath } from './doorbells.ts';
import { PciDriverTransport, type VirtioPciDriverTransport } from './driver-transport.ts';
import type { InterruptController } from './interrupt-controller.ts';
import { LegacyPorts } from './legacy-ports.ts';
import { LegacyDriverTransport } from './legacy-transport.ts';
import { type PciAccess, formatBdf } from './pci-access.ts';
import { PciDevice } from './pci-device.ts';
import { windowAccess, windowBars } from './window-access.ts';

export interface ConnectVirtioPciOptions {
  readonly access: PciAccess;
  readonly bdf: number;
  readonly interrupts: InterruptController;
  /** Stays the caller's; given on in the link. */
  readonly dma: DmaMapper;
  /** The driver's context: reset timer and `onGone`. Handlers of calls run in that of `interrupts`. */
  readonly aio: AioContext;
  /** Leaner kicks than trapped writes. Used with `bars`. */
  readonly kicks?: KickPath;
  /**
   * How registers are reached: in the BARs, which must have been placed, or through the PCI_CFG capability (§4.1.4.9), for
   * which no BAR need be (MSI-X then still needs its own); or the legacy ones of a transitional or legacy device, in I/O space
   * (§4.1.4.10). Default `bars`.
   */
  readonly registers?: 'bars' | 'window' | 'legacy';
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
  let transport: PciTransport | undefined;
  const door = new PciDevice(options.access, options.bdf, (reason) => transport?.gone(reason));
  const deviceType = identify(door);
  const { registers = 'bars', dma } = options;
  const connected = (transport =
    registers === 'legacy'
      ? connectLegacy(door, deviceType, options)
      : connectModern(door, deviceType, options, registers));
  return { transport: connected, dma, [Symbol.asyncDispose]: () => connected[Symbol.asyncDispose]() };
}

type PciTransport = PciDriverTransport | LegacyDriverTransport;

const RESET_TIMEOUT_MS_DEFAULT = 5000;

function connectModern(
  door: PciDevice,
  deviceType: number,
  options: ConnectVirtioPciOptions,
  registers: 'bars' | 'window',
): PciDriverTransport {
  const { device, structures, spaces } = locate(door, registers);
  return withSpaces(device, spaces, () => {
    const queueCount = new CommonRegisters(device, structures.common.address).read('num_queues');
    const readIsr = (): number => device.access.memoryRead(structures.isr.address, 1);
    return new PciDriverTransport({
      device,
      deviceType,
      queueCount,
      structures,
      routing: new CallRouting(device, { msix: structures.msix, readIsr }, options.interrupts, queueCount),
      aio: options.aio,
      kicks: registers === 'window' ? undefined : options.kicks,
      resetTimeoutMs: options.resetTimeoutMs ?? RESET_TIMEOUT_MS_DEFAULT,
    });
  });
}

function connectLegacy(
  device: PciDevice,
  deviceType: number,
  { interrupts, aio, resetTimeoutMs = RESET_TIMEOUT_MS_DEFAULT }: ConnectVirtioPciOptions,
): LegacyDriverTransport {
  const { access, bdf } = device;
  const msix = findMsix((offset) => access.configRead(bdf, offset, 4), readMemoryBars(access, bdf));
  const ports = new LegacyPorts(device);
  const spaces = PCI_COMMAND_IO | (msix === undefined ? 0 : PCI_COMMAND_MEMORY);
  return withSpaces(device, spaces, () => {
    const queueCount = ports.countQueues();
    const readIsr = (): number => ports.readQuietly(VIRTIO_PCI_ISR, 1);
    const routing = new CallRouting(device, { msix, readIsr }, interrupts, queueCount);
    return new LegacyDriverTransport({ device, deviceType, queueCount, ports, routing, aio, resetTimeoutMs });
  });
}

/** Enables address decoding and bus mastering, and takes them away again if `connect` throws. */
function withSpaces<T>(device: PciDevice, spaces: number, connect: () => T): T {
  device.changeCommand(spaces | PCI_COMMAND_MASTER, 0);
  try {
    return connect();
  } catch (error) {
    device.changeCommand(0, spaces | PCI_COMMAND_MASTER);
    throw error;
  }
}

interface Located {
  /** The function through which the structures are reached at their addresses. */
  readonly device: PciDevice;
  readonly structures: VirtioStructures;
  /** Bits of the command register that they need. */
  readonly spaces: number;
}

function locate(door: PciDevice, registers: 'bars' | 'window'): Located {
  const { access, bdf } = door;
  const readConfig = (offset: number): number => access.configRead(bdf, offset, 4);
  const bars = readMemoryBars(access, bdf);
  if (registers === 'bars') {
    return { device: door, structures: findStructures(readConfig, bars), spaces: PCI_COMMAND_MEMORY };
  }
  const window = findWindow(readConfig);
  if (window === undefined) {
    throw new TransportError('EPROTO', 'The device has no usable PCI_CFG capability');
  }
  const structures = findStructures(readConfig, { virtio: windowBars(bars), msix: bars });
  const device = new PciDevice(windowAccess(access, bdf, window), bdf, (reason) => door.markGone(reason));
  return { device, structures, spaces: structures.msix === undefined ? 0 : PCI_COMMAND_MEMORY };
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
