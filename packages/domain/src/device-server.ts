import { VIRTIO_XENBUS_KEY_PROFILE, VIRTIO_XENBUS_KIND } from '@virtlab/abi/virtio-xenbus';
import type { DeviceHost, VirtioDevice } from '@virtlab/virtio';
import { type VirtioBackends, watchVirtioBackends } from '@virtlab/virtio-xenbus';
import type { Xenstore } from '@virtlab/xenstore';
import { type DeviceBus, profileOf } from './connect-devices.ts';
import type { Domain } from './domain.ts';
import type { Guest, Toolstack } from './toolstack.ts';

/** PCI slots below this one are for the platform. */
const FIRST_SLOT = 3;

/**
 * Gives guests their virtio devices, served in this domain: on the PCI bus of an HVM guest's device model, below a xenbus
 * directory for a PV guest. The device cannot tell.
 */
export interface DeviceServer extends AsyncDisposable {
  /**
   * Before the guest starts, or later as hotplug. `index` numbers the guest's devices from 0. The profile of a PV guest's
   * device is written into its backend's directory, by the toolstack. Default `xenbus`.
   */
  plug(
    guest: Guest,
    index: number,
    device: VirtioDevice,
    name: string,
    bus?: Exclude<DeviceBus, 'pci'>,
  ): Promise<void>;
  /** Surprise removal. */
  unplug(guest: Guest, index: number): Promise<void>;
  /** The model in front of the device, while its guest lives; over xenbus only once its backend runs. */
  hostOf(guest: Guest, index: number): DeviceHost | undefined;
  /** Resolves once no backend is left of guests that are gone. */
  idle(): Promise<void>;
}

export async function createDeviceServer(
  own: Domain,
  store: Xenstore,
  toolstack: Toolstack,
): Promise<DeviceServer> {
  const promised = new Map<string, { readonly device: VirtioDevice; readonly name: string }>();
  const hosts = new Map<string, DeviceHost>();
  const backends: VirtioBackends = await watchVirtioBackends({
    store,
    domain: own.id,
    events: own.events,
    grantMapper: own.grantMapper,
    aio: own.aio,
    mapDomain: async (peer) => void (await own.mapDomain(peer)),
    createDevice: ({ frontendDomain, index }) => promised.get(key(frontendDomain, index))?.device,
    onHost: (host, { frontendDomain, index }) => void hosts.set(key(frontendDomain, index), host),
  });
  const goneWatch = own.connection.onDomainGone((domain) => {
    for (const map of [promised, hosts])
      for (const at of map.keys()) if (at.startsWith(`${domain}/`)) map.delete(at);
  });
  return {
    plug: async (guest, index, device, name, bus = 'xenbus') => {
      const at = key(guest.domain, index);
      if (guest.deviceModel !== undefined) {
        hosts.set(at, guest.deviceModel.addDevice(FIRST_SLOT + index, { device, name }));
        return;
      }
      promised.set(at, { device, name });
      const backend = { [VIRTIO_XENBUS_KEY_PROFILE]: profileOf(bus) };
      await toolstack.attachXenbusDevice(guest, VIRTIO_XENBUS_KIND, index, { backend });
    },
    unplug: async (guest, index) => {
      if (guest.deviceModel !== undefined) await guest.deviceModel.removeDevice(FIRST_SLOT + index);
      else await toolstack.detachXenbusDevice(guest, VIRTIO_XENBUS_KIND, index);
      hosts.delete(key(guest.domain, index));
    },
    hostOf: (guest, index) => hosts.get(key(guest.domain, index)),
    idle: () => backends.idle(),
    [Symbol.asyncDispose]: async () => {
      goneWatch[Symbol.dispose]();
      await backends[Symbol.asyncDispose]();
      promised.clear();
      hosts.clear();
    },
  };
}

function key(domain: number, index: number): string {
  return `${domain}/${index}`;
}
