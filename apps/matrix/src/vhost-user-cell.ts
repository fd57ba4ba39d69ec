import type { NodeAioContext } from '@virtlab/aio/node';
import { type UnixStream, openFdCount, socketPair } from '@virtlab/linux';
import {
  type ConnectVhostUserOptions,
  type VhostUserBackend,
  connectVhostUser,
  serveVhostUser,
  vhostUserStream,
} from '@virtlab/vhost-user';
import { DeviceHost } from '@virtlab/virtio';
import type { DeviceName } from './exercises.ts';
import { createDevice } from './fixtures.ts';
import type { Cell, CellResult, DoorbellName } from './grid.ts';
import { exercise, requireNothing } from './in-process.ts';
import { createDoorbellContext } from './late-event-fds.ts';

const MEMORY_SIZE = 16 << 20;
/** Of the two sides' doorbells. */
const DRIVER_SEED = 1;
const DEVICE_SEED = 2;

/** Driver and device in one thread, each with a loop of its own, at the two ends of a socket pair. Rejects as `runCell`. */
export async function runVhostUserCell(cell: Cell): Promise<CellResult> {
  const fdCount = openFdCount();
  const side = new DeviceSide(cell.doorbells);
  const [driverFd, deviceFd] = socketPair();
  const backend = side.serve(vhostUserStream(deviceFd), cell.device);
  const result = await driveCell(cell, { fd: driverFd });
  await backend.ended;
  requireNothing([...side.close(), ...moreFds(fdCount)]);
  return result;
}

/** The driver's side of a cell, from the connection to its end. Rejects with what went wrong, or with what was left of this side. */
export async function driveCell(
  cell: Pick<Cell, 'ring' | 'device' | 'doorbells'>,
  place: Pick<ConnectVhostUserOptions, 'path' | 'fd'>,
): Promise<CellResult> {
  const aio = createDoorbellContext(cell.doorbells, DRIVER_SEED);
  const { deviceType, queueSizesMax } = createDevice(cell.device);
  const link = await connectVhostUser({
    ...place,
    aio,
    deviceType,
    queueCount: queueSizesMax.length,
    queueSizeMax: queueSizesMax,
    memorySize: MEMORY_SIZE,
  });
  const result = await exercise(cell, link, aio);
  const { usedPages, lentCount, coherentCount } = link.dma;
  await link[Symbol.asyncDispose]();
  const memory = Object.entries({ usedPages, lentCount, coherentCount });
  const leaks = memory.flatMap(([what, count]) => (count === 0 ? [] : [`${what}: ${count}`]));
  leaks.push(...aio.leaks());
  aio[Symbol.dispose]();
  requireNothing(leaks);
  return result;
}

/** The device's side: a loop, and for each connection a device of its own. */
export class DeviceSide {
  readonly #aio: NodeAioContext;

  constructor(doorbells: DoorbellName) {
    this.#aio = createDoorbellContext(doorbells, DEVICE_SEED);
  }

  serve(stream: UnixStream, name: DeviceName): VhostUserBackend {
    const host = new DeviceHost({ device: createDevice(name), aio: this.#aio });
    const backend = serveVhostUser(stream, { host, aio: this.#aio });
    void backend.ended.then(() => host[Symbol.dispose]());
    return backend;
  }

  /** No connection is left. Answers what is. */
  close(): readonly string[] {
    const leaks = this.#aio.leaks();
    this.#aio[Symbol.dispose]();
    return leaks;
  }
}

/** Descriptors that were not there before. Fewer is no leak: a module that was being loaded then is closed by now. */
export function moreFds(before: number): readonly string[] {
  const count = openFdCount() - before;
  return count <= 0 ? [] : [`${count} descriptors`];
}
