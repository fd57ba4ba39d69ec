/** A thread that serves some queues of a split disk: an image opened for itself, a device with all queues, and its loop. */
import { parentPort, workerData } from 'node:worker_threads';
import type { NodeAioContext } from '@virtlab/aio/node';
import { LinuxError } from '@virtlab/linux';
import { type VhostUserBackend, serveVhostUser, vhostUserStream } from '@virtlab/vhost-user';
import { DeviceHost } from '@virtlab/virtio';
import { StartError } from '../start-error.ts';
import { createDeviceContext } from './device-context.ts';
import { hostReports, trafficOf, trafficSince } from './host-reports.ts';
import { type Disk, createDisk, openDisk } from './open-disk.ts';
import type { FromQueueThread, QueueThreadData, ToQueueThread } from './queue-messages.ts';
import type { Report } from './report.ts';
import { ThreadLife, textOf } from './thread-life.ts';

const port = parentPort!;
const tell = (message: FromQueueThread): void => port.postMessage(message);
const report = (each: Report): void => tell({ kind: 'report', report: each });

class QueueService {
  readonly #aio: NodeAioContext;
  readonly #disk: Disk;
  readonly #host: DeviceHost;
  #backend: VhostUserBackend | undefined;
  #isStatusDue = false;

  constructor({ plan, name, pollNs, isFirst }: QueueThreadData, aio: NodeAioContext, disk: Disk) {
    this.#aio = aio;
    this.#disk = disk;
    const device = createDisk(plan, disk);
    this.#host = new DeviceHost({
      ...hostReports(name, report),
      ...(isFirst ? {} : { onRefusal: () => {} }),
      legacy: true,
      polling: pollNs > 0,
      aio,
      device,
    });
  }

  get configSize(): number {
    return this.#host.configSize;
  }

  /** One session after the other. */
  serve(fd: number): void {
    const before = trafficOf(this.#host);
    const stream = vhostUserStream(fd);
    tell({ kind: 'serving' });
    const backend = serveVhostUser(stream, {
      host: this.#host,
      aio: this.#aio,
      onRequest: () => this.#tellStatus(),
      onRefusal: (reason) => tell({ kind: 'refusal', reason }),
    });
    this.#backend = backend;
    void backend.ended.then(({ fault, error }) => {
      this.#backend = undefined;
      const traffic = trafficSince(before, trafficOf(this.#host));
      tell({ kind: 'ended', fault, error: error === undefined ? undefined : textOf(error), traffic });
    });
  }

  refresh(): void {
    this.#disk.refresh?.();
  }

  async close(): Promise<void> {
    await this.#backend?.close();
    this.#host[Symbol.dispose]();
    await this.#disk.close();
  }

  /** After the request, and the others that came with it. */
  #tellStatus(): void {
    if (this.#isStatusDue) return;
    this.#isStatusDue = true;
    setImmediate(() => {
      this.#isStatusDue = false;
      if (this.#backend !== undefined) tell({ kind: 'status', status: this.#backend.status() });
    });
  }
}

const life = new ThreadLife<QueueService>((problem) => {
  tell({ kind: 'closed', problem });
  port.close();
});

async function start(data: QueueThreadData): Promise<QueueService> {
  const context = await createDeviceContext(data);
  life.context = context;
  const warn = (message: string): void => report({ event: 'warning', message });
  const { contents, imageFd } = data;
  // The lock is the controlling thread's: another open file would not get it beside that.
  const disk = await openDisk(data.plan, {
    warn,
    lock: false,
    ...(contents === undefined ? {} : { contents }),
    ...(imageFd === undefined ? {} : { heldFd: imageFd }),
  });
  const service = new QueueService(data, context, disk);
  tell({ kind: 'ready', configSize: service.configSize });
  return service;
}

function refuse(error: unknown): void {
  const isKnown = error instanceof StartError || error instanceof LinuxError || error instanceof RangeError;
  if (!isKnown) throw error;
  const startKind = error instanceof StartError ? error.kind : 'environment';
  tell({ kind: 'refused', startKind, message: error.message });
  void life.end(undefined);
}

process.on('uncaughtException', (error) => {
  tell({ kind: 'failed', error: textOf(error) });
  void life.end(undefined);
});
const started = life.begin(async () => await start(workerData as QueueThreadData)).catch(refuse);
port.on('message', (message: ToQueueThread) => {
  void started.then(() => {
    if (message.kind === 'end') void life.end(undefined);
    else if (message.kind === 'refresh') life.service?.refresh();
    else if (!life.isEnding) life.service?.serve(message.fd);
  });
});
