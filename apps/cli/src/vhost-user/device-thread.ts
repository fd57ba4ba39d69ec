/**
 * The thread that a device lives in, from the connection to its rings and its storage; the main thread prints and ends it. Of a disk
 * whose queues are spread over threads only the connection is here.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { LinuxError } from '@virtlab/linux';
import { createRngDevice } from '@virtlab/virtio-rng';
import { nodeCryptoSource } from '@virtlab/virtio-rng/node';
import { StartError } from '../start-error.ts';
import { type DaemonPlan, placeName } from './daemon-plan.ts';
import { createDeviceContext } from './device-context.ts';
import { serveDisk } from './disk-service.ts';
import { serveModule } from './module-service.ts';
import { serveNetwork } from './network-service.ts';
import type { Report } from './report.ts';
import { ServedDevice } from './served-device.ts';
import type { Service, ThreadRequest } from './service.ts';
import { serveSplitDisk } from './split-disk.ts';
import { ThreadLife, textOf } from './thread-life.ts';

const port = parentPort!;
const report = (each: Report): void => port.postMessage(each);
const life = new ThreadLife<Service>((problem) => {
  report({ event: 'closed', problem });
  port.close();
});

async function start({ device, places, pollNs, loop }: DaemonPlan): Promise<Service> {
  const onLast = (): void => void life.end(undefined);
  const place = places[0]!;
  if (device.kind === 'blk' && device.threadCount > 1) {
    const onDeath = (message: string): void => void life.end(message);
    return await serveSplitDisk(device, { place, pollNs, loop, report, onLast, onDeath });
  }
  const aio = await createDeviceContext({ pollNs, loop });
  life.context = aio;
  const common = { aio, report, onLast, place, polling: pollNs > 0 };
  if (device.kind === 'net') return await serveNetwork(device, { ...common, places });
  if (device.kind === 'blk') return await serveDisk(device, common);
  if (device.kind === 'module') return await serveModule(device, common);
  // QEMU 7.2 negotiates STATUS for this device and then never says DRIVER_OK (its vq_index_end is not set).
  const rng = createRngDevice({ source: nodeCryptoSource });
  return new ServedDevice({ ...common, device: rng, legacy: true, withheld: ['STATUS'] });
}

function refuse(error: unknown): void {
  if (error instanceof StartError) report({ event: 'refused', kind: error.kind, message: error.message });
  else if (error instanceof LinuxError || error instanceof RangeError) {
    report({ event: 'refused', kind: 'environment', message: error.message });
  } else throw error;
  void life.end(undefined);
}

process.on('uncaughtException', (error) => report({ event: 'failed', message: textOf(error) }));
port.on('message', (request: ThreadRequest) => {
  if (request === 'end') void life.end(undefined);
  else life.service?.refresh?.();
});
const plan = workerData as DaemonPlan;
try {
  await life.begin(async () => await start(plan));
  const { device, places } = plan;
  const threads = device.kind === 'blk' ? { threads: device.threadCount } : {};
  if (!life.isEnding) report({ event: 'listening', sockets: places.map(placeName), ...threads });
} catch (error) {
  refuse(error);
}
