import type { VirtioDevice } from '@virtlab/virtio';
import { createHostPort, createLearningSwitch, createNetDevice } from '@virtlab/virtio-net';
import { CARD_MAC, FRAME_SIZE_MIN, FloodFrame, FloodReceiver, STATION_MAC } from './frames.ts';

/** A card on a switch of its own, with the station on the other port. */
export function createCard(): VirtioDevice {
  const network = createLearningSwitch();
  const station = createHostPort(network, 'station', { mac: STATION_MAC });
  const answer = new FloodFrame(FRAME_SIZE_MIN, STATION_MAC, CARD_MAC);
  const receiver = new FloodReceiver((received) => {
    station.send(answer.set(received, true));
    station.kick();
  });
  station.onFrame((frame) => receiver.receive(frame));
  return createNetDevice({ mac: CARD_MAC, port: network.addPort('card') });
}
