// A driver domain: serves the devices that domain 0 gives it, until it is killed.
import { type Domain, connectOwnXenstore, serveBackends } from '@virtlab/domain';
import { createHostPort, createLearningSwitch } from '@virtlab/virtio-net';
import { DEVICE_SPEC_KEY, type MadeDevice, STATION_MAC, makeDevice } from './devices.ts';
import { echoFrames } from '../echo-station.ts';
import type { DeviceSpec } from './messages.ts';

export async function boot(domain: Domain): Promise<void> {
  domain.console({ kind: 'booting' });
  const store = connectOwnXenstore(domain);
  const network = createLearningSwitch();
  const station = createHostPort(network, 'station', { mac: STATION_MAC });
  echoFrames(station, STATION_MAC);
  const made = new Map<string, MadeDevice>();
  await serveBackends(domain, store, {
    createDevice: async ({ frontendDomain, index }, keys) => {
      const spec = JSON.parse(keys.get(DEVICE_SPEC_KEY)!) as DeviceSpec;
      const name = `${frontendDomain}/${index}`;
      const device = await makeDevice(spec, name, network);
      made.set(name, device);
      return device.device;
    },
    onClosed: ({ frontendDomain, index }) => {
      const name = `${frontendDomain}/${index}`;
      const device = made.get(name);
      made.delete(name);
      void device?.[Symbol.asyncDispose]();
    },
  });
  domain.console({ kind: 'up' });
}
