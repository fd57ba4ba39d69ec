import { pathToFileURL } from 'node:url';
import { VIRTIO_ID_BLOCK, VIRTIO_ID_NET } from '@virtlab/abi/virtio';
import type { VirtioDevice } from '@virtlab/virtio';
import { type BlockBackend, createBlkDevice } from '@virtlab/virtio-blk';
import { StartError } from '../start-error.ts';
import type { ModulePlan } from './daemon-plan.ts';
import { SEGMENT_COUNT_MAX } from './open-disk.ts';
import { requireBackend, requireDevice } from './module-shape.ts';
import { adviceFor, lendOwnPackages } from './own-packages.ts';
import { ServedDevice, type ServedDeviceOptions } from './served-device.ts';
import type { Service } from './service.ts';

interface Loaded {
  readonly device: VirtioDevice;
  readonly backend: BlockBackend | undefined;
}

/**
 * QEMU asks for as many queues as the guest has processors, and refuses a disk of fewer. One thread serves them all; the driver is
 * told of as many as QEMU asked for.
 */
const MODULE_DISK_QUEUE_COUNT = 64;

/** Types of which QEMU 7.2 sets DRIVER_OK where STATUS is negotiated: of the others it never does (vq_index_end is not set). */
const TYPES_WITH_STATUS: ReadonlySet<number> = new Set([VIRTIO_ID_BLOCK, VIRTIO_ID_NET]);

/** Loads a user's module and serves the device that it makes. Rejects with `StartError` for a module that makes none. */
export async function serveModule(
  { file }: ModulePlan,
  options: Omit<ServedDeviceOptions, 'device'>,
): Promise<Service> {
  const { device, backend } = await load(file);
  const legacy = backend === undefined ? {} : { legacy: true };
  const withheld = TYPES_WITH_STATUS.has(device.deviceType) ? [] : (['STATUS'] as const);
  let served: ServedDevice;
  try {
    served = new ServedDevice({ ...options, ...legacy, withheld, device });
  } catch (error) {
    await backend?.close();
    throw misuse(file, error);
  }
  return {
    close: async () => {
      await served.close();
      await backend?.close();
    },
  };
}

async function load(file: string): Promise<Loaded> {
  let module: Readonly<Record<string, unknown>>;
  lendOwnPackages();
  try {
    module = (await import(pathToFileURL(file).href)) as Readonly<Record<string, unknown>>;
  } catch (error) {
    const advice = adviceFor(error);
    const message = `${file} cannot be loaded: ${stackOf(error)}`;
    throw new StartError('usage', advice === undefined ? message : `${message}\n${advice}`);
  }
  const { createDevice, backend } = module;
  if ((createDevice === undefined) === (backend === undefined)) {
    const found = Object.keys(module).join(', ') || 'nothing';
    throw new StartError('usage', `${file}: export either createDevice or backend; it exports ${found}`);
  }
  try {
    if (createDevice === undefined) {
      const disk = requireBackend(backend);
      const shape = { segMax: SEGMENT_COUNT_MAX, queueCount: MODULE_DISK_QUEUE_COUNT };
      return { device: createBlkDevice({ backend: disk, ...shape }), backend: disk };
    }
    if (typeof createDevice !== 'function') throw new TypeError('createDevice is no function');
    return { device: requireDevice(await made(createDevice as () => unknown)), backend: undefined };
  } catch (error) {
    throw misuse(file, error);
  }
}

/** What the module's own code throws is shown with the place in it. */
async function made(createDevice: () => unknown): Promise<unknown> {
  try {
    return await createDevice();
  } catch (error) {
    throw new TypeError(`createDevice() threw ${stackOf(error)}`, { cause: error });
  }
}

/** A device that is not as the contract says (`checkDevice`) is its author's mistake, and no fault of this machine. */
function misuse(file: string, error: unknown): unknown {
  if (!(error instanceof RangeError || error instanceof TypeError)) return error;
  return new StartError('usage', `${file}: ${error.message}`);
}

const OURS = new URL('.', import.meta.url).href;

/** Only as far as it is about the user's own code. */
function stackOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const isElsewhere = (line: string): boolean => / at .*(node:internal|\(native)/.test(line);
  const lines = (error.stack ?? error.message).split('\n');
  return lines.filter((line) => !isElsewhere(line) && !line.includes(OURS)).join('\n');
}
