import type { AioContext } from '@virtlab/aio';
import type { DriverLink, VirtioDevice } from '@virtlab/virtio';
import { describeDevice } from '@virtlab/virtio/conformance';
import { createNetDevice } from './device.ts';
import { createNetDriver } from './driver.ts';
import { type HostPort, createHostPort } from './host-port.ts';
import { createLearningSwitch } from './learning-switch.ts';
import { hex, mac, makeFrame } from './testing/frames.ts';

const stations = new Map<VirtioDevice, HostPort>();

/** A card on a switch with a station that sends everything back to whoever sent it. */
function createDevice(mtu: number): VirtioDevice {
  const network = createLearningSwitch();
  const station = createHostPort(network, 'echo');
  station.onFrame((frame) => {
    const answer = frame.slice();
    answer.set(frame.subarray(6, 12), 0);
    answer.set(frame.subarray(0, 6), 6);
    station.send(answer);
    station.kick();
  });
  const device = createNetDevice({ mac: mac(1), mtu, port: network.addPort('card'), queueSize: 64 });
  stations.set(device, station);
  return device;
}

async function drive(link: DriverLink, aio: AioContext): Promise<void> {
  await using card = await createNetDriver(link, { aio });
  const arrived = Promise.withResolvers<Uint8Array>();
  card.onFrame((frame) => arrived.resolve(frame.slice()));
  card.send(makeFrame(mac(2), card.mac, card.frameSizeMax));
  card.kick();
  const expected = makeFrame(card.mac, mac(2), card.frameSizeMax);
  if (hex(await arrived.promise) !== hex(expected)) throw new Error('The frame comes back as another one');
}

for (const mtu of [1500, 9000]) {
  describeDevice({
    name: `net, mtu ${mtu}`,
    createDevice: () => createDevice(mtu),
    disposeDevice: (device) => {
      stations.get(device)?.[Symbol.dispose]();
      stations.delete(device);
    },
    drive,
  });
}
