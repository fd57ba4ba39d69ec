/** Whether what a user's module exports is what it has to be, member by member: nobody may have checked its types. */
import type { VirtioDevice } from '@virtlab/virtio';
import type { BlockBackend } from '@virtlab/virtio-blk';

type Shape<Contract> = { readonly [Member in keyof Contract]?: 'function' | 'number' | 'bigint' | 'boolean' };

const DEVICE: Shape<VirtioDevice> = {
  deviceType: 'number',
  features: 'bigint',
  configSize: 'number',
  readConfig: 'function',
  activate: 'function',
  processQueue: 'function',
  reset: 'function',
};

const BACKEND: Shape<BlockBackend> = {
  capacitySectors: 'number',
  readOnly: 'boolean',
  blockSize: 'number',
  onComplete: 'function',
  read: 'function',
  write: 'function',
  flush: 'function',
  discard: 'function',
  writeZeroes: 'function',
  submit: 'function',
  close: 'function',
};

/** Throws `TypeError` that names the first member that is missing or of another type. */
export function requireDevice(value: unknown): VirtioDevice {
  requireMembers('createDevice()', value, DEVICE);
  const device = value as VirtioDevice;
  if (!Array.isArray(device.queueSizesMax)) {
    throw new TypeError(`queueSizesMax of createDevice() is ${typeName(device.queueSizesMax)}, not an array`);
  }
  return device;
}

/** The same for a disk. */
export function requireBackend(value: unknown): BlockBackend {
  requireMembers('backend', value, BACKEND);
  return value as BlockBackend;
}

function requireMembers(what: string, value: unknown, shape: Readonly<Record<string, string>>): void {
  if (typeof value !== 'object' || value === null)
    throw new TypeError(`${what} is ${typeName(value)}, not an object`);
  for (const [name, type] of Object.entries(shape)) {
    const member: unknown = Reflect.get(value, name);
    if (typeof member !== type) {
      throw new TypeError(
        `${name} of ${what} is ${typeName(member)}, not a ${type}: see ${INTERFACES[what]!}`,
      );
    }
  }
}

const INTERFACES: Readonly<Record<string, string>> = {
  'createDevice()': 'VirtioDevice of @virtlab/virtio',
  backend: 'BlockBackend of @virtlab/virtio-blk',
};

function typeName(value: unknown): string {
  if (value === undefined) return 'missing';
  return value === null ? 'null' : `a ${typeof value}`;
}
