/** The thread that a device lives in, from the connection to its rings and its storage; the main thread prints and ends it. */
import { parentPort, workerData } from 'node:worker_threads';
import { type NodeAioContext, createBlockingAioContext, createNodeAioContext } from '@virtlab/aio/node';
import { LinuxError } from '@virtlab/linux';
import { createRngDevice } from '@virtlab/virtio-rng';
import { nodeCryptoSource } from '@virtlab/virtio-rng/node';
import { StartError } from '../start-error.ts';
import { type DaemonPlan, placeName } from './daemon-plan.ts';
import { serveDisk } from './disk-service.ts';
import { serveNetwork } from './network-service.ts';
import type { Report } from './report.ts';
import { ServedDevice } from './served-device.ts';
import type { Service, ThreadRequest } from './service.ts';

const port = parentPort!;
const report = (each: Report): void => port.postMessage(each);

async function start(plan: DaemonPlan, aio: NodeAioContext): Promise<Service> {
  const { device, places } = plan;
  const common = {
    aio,
    report,
    onLast: () => void end(undefined),
    place: places[0]!,
    polling: plan.pollNs > 0,
  };
  if (device.kind === 'net') return await serveNetwork(device, { ...common, places });
  if (device.kind === 'blk') return await serveDisk(device, common);
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
  const polling = { maxNs: plan.pollNs };
  context =
    plan.loop === 'poll' ? await createBlockingAioContext({ polling }) : createNodeAioContext({ polling });
  service = await start(plan, context);
  report({ event: 'listening', sockets: plan.places.map(placeName) });
} catch (error) {
  refuse(error);
}
