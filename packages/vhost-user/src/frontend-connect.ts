import type { IdentityDmaMapper } from '@virtlab/guest-memory';
import { LinuxError, UnixStream, closeFd } from '@virtlab/linux';
import { type DriverLink, type LentMemory, TransportError } from '@virtlab/virtio';
import { FrontendMemory } from './frontend-memory.ts';
import { type ConnectVhostUserOptions, resolveFrontendOptions } from './frontend-options.ts';
import { FrontendTransport, type VhostUserDriverTransport } from './frontend-transport.ts';

export interface VhostUserLink extends DriverLink {
  readonly transport: VhostUserDriverTransport;
  readonly dma: IdentityDmaMapper;
  /** The device's slots but one. */
  readonly mappedMemoryCountMax: number;
  mapMemory(fd: number, offset: number, size: number): Promise<LentMemory>;
}

/**
 * Takes over the device that listens at a Unix socket: shakes hands and makes the memory that driver and device share. The
 * device is not reset: that is the first step of its driver (§3.1.1).
 *
 * Rejects with `TransportError`: `ENODEV` (nobody listens, or it hung up), `EPROTO` (the message and its field are named),
 * `ENOTSUP` (fewer queues than asked for), `ETIMEDOUT`; with `LinuxError` when there is no memory. Disposing the link resets
 * the device and takes the memory away; views of it read zeros from then on, and a driver that is still there learns that its
 * device is gone.
 */
export async function connectVhostUser(options: ConnectVhostUserOptions): Promise<VhostUserLink> {
  const resolved = resolveFrontendOptions(options);
  const stream = streamTo(options);
  let memory: FrontendMemory;
  try {
    memory = new FrontendMemory(resolved.memorySize);
  } catch (error) {
    stream.close();
    throw error;
  }
  const transport = await FrontendTransport.open(stream, memory, resolved);
  return {
    transport,
    dma: memory.dma,
    get mappedMemoryCountMax() {
      return transport.memorySlotCount - 1;
    },
    mapMemory: (fd, offset, size) => memory.lend(transport, transport.memorySlotCount, fd, offset, size),
    [Symbol.asyncDispose]: () => transport[Symbol.asyncDispose](),
  };
}

/** Throws `TransportError` `ENODEV`; a descriptor that was given is owned from here on. */
export function streamTo({ path, fd }: ConnectVhostUserOptions): UnixStream {
  try {
    return path === undefined ? UnixStream.fromFd(fd!) : UnixStream.connect(path);
  } catch (error) {
    if (fd !== undefined) closeFd(fd);
    if (!(error instanceof LinuxError)) throw error;
    throw new TransportError('ENODEV', error.message, { cause: error });
  }
}
