/** A process that drives the card at a socket, says so, and sends and receives until it is killed. */
import { VIRTIO_ID_NET } from '@virtlab/abi/virtio';
import { createNodeAioContext } from '@virtlab/aio/node';
import { connectVhostUser } from '@virtlab/vhost-user';
import { createNetDriver } from '@virtlab/virtio-net';
import { experiment } from './frames.ts';

const BURST = 32;
const SAID_AFTER = 1000;

const aio = createNodeAioContext();
const link = await connectVhostUser({ path: process.argv[2]!, aio, deviceType: VIRTIO_ID_NET });
const driver = await createNetDriver(link, { aio, controlElsewhere: true });
const frames = Array.from({ length: BURST }, (_, at) => experiment(1000, at));
const send = (): void => {
  for (const frame of frames) driver.send(frame);
  driver.kick();
};
let count = 0;
driver.onFrame(
  () => {
    count += 1;
    if (count === SAID_AFTER) process.stdout.write('busy\n');
  },
  () => void (count % BURST === 0 && send()),
);
setInterval(send, 1);
