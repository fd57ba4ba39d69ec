/** The same disk without the `virtlab` command: `node serve-computed-disk.ts disk.sock` serves one QEMU after the other. */
import { createNodeAioContext } from '@virtlab/aio/node';
import { listenVhostUser, serveVhostUser } from '@virtlab/vhost-user';
import { DeviceHost } from '@virtlab/virtio';
import { createDevice } from './computed-disk.ts';

const [path] = process.argv.slice(2);
if (path === undefined) throw new TypeError('Where to listen?');
const aio = createNodeAioContext();
const host = new DeviceHost({ device: createDevice(), aio });
const listener = listenVhostUser({
  path,
  serve: (stream) => serveVhostUser(stream, { host, aio }),
  onEnd: ({ fault, error }) => console.log('disconnected', fault?.message ?? error ?? ''),
});
console.log(`listening at ${path}`);

async function end(): Promise<void> {
  await listener.close();
  host[Symbol.dispose]();
  aio[Symbol.dispose]();
}
process.once('SIGTERM', () => void end());
