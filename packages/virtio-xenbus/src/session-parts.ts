import { type DomId, type EvtchnPort, evtchnPort } from '@virtlab/abi/brands';
import { XEN_GRANT_DMA_ADDR_OFF } from '@virtlab/abi/grant-table';
import { XEN_PAGE_SHIFT, XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import { EventChannelError, type EventChannels } from '@virtlab/event-channel';
import type { GrantMapper } from '@virtlab/grant-table';
import type { MappedArea } from '@virtlab/guest-memory';
import type { DeviceHost, DeviceTransport } from '@virtlab/virtio';
import { type XenbusDevice, XenbusError } from '@virtlab/xenbus';
import type { GrantDeviceMemory } from './grant-device-memory.ts';

export interface SessionOptions {
  readonly device: XenbusDevice;
  readonly host: DeviceHost;
  readonly events: EventChannels;
  readonly grantMapper: GrantMapper;
  readonly mapCountMax?: number;
  /** Makes the frontend's memory reachable for the mapper. */
  readonly mapDomain: (domain: DomId) => Promise<unknown>;
  /** The driver wrote something that takes more than a moment: `handleDue` is due. */
  readonly onDue: () => void;
  /** The frontend broke the protocol, or the store is gone. */
  readonly onFault: (error: unknown) => void;
}

/** One connection of a frontend, from the offer to the end: a device model's transport, and what it holds. */
export interface BackendSession extends DeviceTransport, AsyncDisposable {
  /** Takes the page and the channels of a frontend that is Initialised. Rejects for what it wrote. */
  connect(): Promise<void>;
  /** Carries out what the driver asked for through the store, and answers. Rejects for what it wrote. */
  handleDue(): Promise<void>;
}

const U32_MAX = 0xffff_ffff;

export async function mapFrontend({ device, mapDomain }: SessionOptions): Promise<void> {
  const { otherend, otherendDomain } = device;
  try {
    await mapDomain(otherendDomain);
  } catch (error) {
    throw new XenbusError('ENOENT', otherend, `Domain ${otherendDomain} cannot be mapped`, { cause: error });
  }
}

/** Maps the page whose grant reference the frontend wrote as `key`. */
export async function mapPage(
  device: XenbusDevice,
  memory: GrantDeviceMemory,
  key: string,
): Promise<MappedArea> {
  const ref = await device.readOtherendNumber(key, U32_MAX);
  const address = XEN_GRANT_DMA_ADDR_OFF | (BigInt(ref) << BigInt(XEN_PAGE_SHIFT));
  const area = memory.mapArea(address, XEN_PAGE_SIZE, XEN_PAGE_SIZE, true);
  if (typeof area !== 'number') return area;
  throw nonsense(device, key, `Grant ${ref} cannot be mapped`);
}

/** Binds to the port that the frontend wrote as `key`. */
export async function bindPort(
  device: XenbusDevice,
  events: EventChannels,
  key: string,
): Promise<EvtchnPort> {
  const port = await device.readOtherendNumber(key, U32_MAX);
  return await events.bindInterdomain(device.otherendDomain, evtchnPort(port));
}

export async function closePort(events: EventChannels, port: EvtchnPort): Promise<void> {
  try {
    await events.close(port);
  } catch (error) {
    if (!(error instanceof EventChannelError)) throw error; // this domain itself is ending: the hypervisor closed it
  }
}

/** What the frontend wrote as `key` cannot be. */
export function nonsense({ otherend }: XenbusDevice, key: string, message: string): XenbusError {
  return new XenbusError('EINVAL', `${otherend}/${key}`, message);
}
