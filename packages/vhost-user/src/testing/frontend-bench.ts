import { VIRTIO_ID_BLOCK } from '@virtlab/abi/virtio';
import { type NodeAioContext, createNodeAioContext } from '@virtlab/aio/node';
import { openFdCount } from '@virtlab/linux';
import { expect } from 'vitest';
import { type VhostUserLink, connectVhostUser } from '../frontend-connect.ts';
import type { ConnectVhostUserOptions } from '../frontend-options.ts';
import { ScriptedVhostUserDevice, type ScriptedDeviceOptions } from './scripted-device.ts';

export interface FrontendBench {
  readonly device: ScriptedVhostUserDevice;
  readonly aio: NodeAioContext;
  connect(options?: Partial<ConnectVhostUserOptions>): Promise<VhostUserLink>;
}

/** A scripted device and a loop; asserts that neither descriptors nor handlers are left. Links are closed. */
export async function withFrontend(
  options: ScriptedDeviceOptions,
  body: (bench: FrontendBench) => Promise<void>,
): Promise<void> {
  const fdCount = openFdCount();
  const aio = createNodeAioContext();
  const device = new ScriptedVhostUserDevice(options);
  const links: VhostUserLink[] = [];
  const connect: FrontendBench['connect'] = async (more = {}) => {
    const common = { aio, deviceType: VIRTIO_ID_BLOCK, memorySize: 1 << 20, timeoutMs: 500 };
    const link = await connectVhostUser({ ...common, fd: device.driverFd, ...more });
    links.push(link);
    return link;
  };
  try {
    await body({ device, aio, connect });
  } finally {
    for (const link of links) await link[Symbol.asyncDispose]();
    device[Symbol.dispose]();
  }
  expect(aio.leaks()).toEqual([]);
  aio[Symbol.dispose]();
  expect(openFdCount() - fdCount, 'file descriptors').toBe(0);
}

export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => void setImmediate(resolve));
}
