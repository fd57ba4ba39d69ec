/**
 * The thread that a device lives in, from the connection to its rings and its storage; the main thread prints and ends it. Of a disk
 * whose queues are spread over threads only the connection is here.
 */
import { parentPort, workerData } from 'node:worker_threads';
import type { NodeAioContext } from '@virtlab/aio/node';
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

const port = parentPort!;
const report = (each: Report): void => port.postMessage(each);

async function start({ device, places, pollNs, loop }: DaemonPlan): Promise<Service> {
  const onLast = (): void => void end(undefined);
  const place = places[0]!;
  if (device.kind === 'blk' && device.threadCount > 1) {
    const onDeath = (message: string): void => void end(message);
    return await serveSplitDisk(device, { place, pollNs, loop, report, onLast, onDeath });
  }
  const aio = await createDeviceContext({ pollNs, loop });
  context = aio;
  const common = { aio, report, onLast, place, polling: pollNs > 0 };
  if (device.kind === 'net') return await serveNetwork(device, { ...common, places });
  if (device.kind === 'blk') return await serveDisk(device, common);
  if (device.kind === 'module') return await serveModule(device, common);
  // QEMU 7.2 negotiates STATUS for this device and then never says DRIVER_OK (its vq_index_end is not set).
  const rng = createRngDevice({ source: nodeCryptoSource });
  return new ServedDevice({ ...common, device: rng, legacy: true, withheld: ['STATUS'] });
}

let service: Service | undefined;
let context: NodeAioContext | undefined;
let isEnding = false;

async function end(problem: string | undefined): Promise<void> {
  if (isEnding) return;
  isEnding = true;
  let trouble = problem;
  try {
    await service?.close();
    const leaks = context?.leaks() ?? [];
    if (leaks.length > 0) trouble ??= `still there in the end: ${leaks.join(', ')}`;
  } catch (error) {
    trouble ??= error instanceof Error ? (error.stack ?? error.message) : String(error);
  }
  context?.[Symbol.dispose]();
  report({ event: 'closed', problem: trouble });
  port.close();
}

function refuse(error: unknown): void {
  if (error instanceof StartError) report({ event: 'refused', kind: error.kind, message: error.message });
  else if (error instanceof LinuxError || error instanceof RangeError) {
    report({ event: 'refused', kind: 'environment', message: error.message });
  } else throw error;
  void end(undefined);
}

port.on('message', (request: ThreadRequest) => {
  if (request === 'end') void end(undefined);
  else service?.refresh?.();
});
const plan = workerData as DaemonPlan;
try {
  service = await start(plan);
  const { device, places } = plan;
  const threads = device.kind === 'blk' ? { threads: device.threadCount } : {};
  report({ event: 'listening', sockets: places.map(placeName), ...threads });
} catch (error) {
  refuse(error);
}
