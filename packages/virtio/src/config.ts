/** Device configuration space, read so that it does not tear (VIRTIO §2.5.1). */
import { TransportError, type DriverTransport } from './contract.ts';

/** A configuration that changes this often while it is read is not one. */
const ATTEMPTS_MAX = 64;

/**
 * Bytes `[offset, offset + size)` of device configuration space, all of one generation: read again while the
 * generation changes. Rejects with `EIO` when it never holds still, and as the transport rejects.
 */
export async function readConfig(
  transport: Pick<DriverTransport, 'readConfigGeneration' | 'readConfigBytes'>,
  offset: number,
  size: number,
): Promise<Uint8Array> {
  const bytes = new Uint8Array(size);
  let before = await transport.readConfigGeneration();
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
    await transport.readConfigBytes(offset, bytes);
    const after = await transport.readConfigGeneration();
    if (after === before) return bytes;
    before = after;
  }
  throw new TransportError('EIO', `Device configuration changed during each of ${ATTEMPTS_MAX} reads`);
}
