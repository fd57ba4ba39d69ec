import { type AioContext, createAioContext } from '@virtlab/aio';
import { memoryRegion } from '@virtlab/guest-memory';
import { DeviceHost, type DriverLink, type VirtioDevice } from '@virtlab/virtio';
import { createMemoryTransport } from '@virtlab/virtio/memory';

/** A device and its driver's link in this thread. */
export interface MemoryLink extends AsyncDisposable {
  readonly link: DriverLink;
  readonly aio: AioContext;
}

const MEMORY_SIZE = 32 << 20;

export function createMemoryLink(device: VirtioDevice): MemoryLink {
  const [driverAio, deviceAio] = [createAioContext(), createAioContext()];
  const host = new DeviceHost({ device, aio: deviceAio });
  const memory = memoryRegion(new ArrayBuffer(MEMORY_SIZE));
  const transport = createMemoryTransport({ host, memory, driverAio, deviceAio });
  return {
    link: transport.link,
    aio: driverAio,
    [Symbol.asyncDispose]: async () => {
      await transport.close();
      driverAio[Symbol.dispose]();
      deviceAio[Symbol.dispose]();
    },
  };
}
