import { VIRTIO_BLK_S_OK, VIRTIO_BLK_SECTOR_SIZE } from '@virtlab/abi/virtio-blk';
import { NodeAioContext } from '@virtlab/aio/node';
import type { Domain } from '@virtlab/domain';
import type { BlkDriver } from '@virtlab/virtio-blk';
import type { SynchronousDisk } from './fat-volume.ts';

const BUFFER_SIZE = 64 * 1024;
const TIMEOUT_MS = 30_000;
const TOKEN = 1;

/**
 * The disk for code that cannot wait for promises: each request is submitted and the thread stops until it completed,
 * spinning a little and then asleep on the doorbell. Only for a domain that is a process of its own.
 */
export function createSyncDisk(domain: Domain, driver: BlkDriver, sectorCount: number): SynchronousDisk {
  const context = domain.aio;
  if (!(context instanceof NodeAioContext))
    throw new TypeError('Waiting for a disk synchronously needs a process of its own');
  const aio: NodeAioContext = context;
  let completion: number | undefined;

  function complete(submit: (token: number) => number, what: string): void {
    completion = undefined;
    driver.onCompletion((_token, result) => (completion = result));
    const added = submit(TOKEN);
    if (added < 0) throw new Error(`${what}: the request did not fit (${added})`);
    driver.kick();
    const isDone = (): boolean => {
      domain.poll(); // a call that stays pending would be the last to wake us
      driver.poll();
      return completion !== undefined;
    };
    if (!aio.runUntil(isDone, TIMEOUT_MS)) throw new Error(`${what}: no answer within ${TIMEOUT_MS} ms`);
    driver.onCompletion(undefined);
    if (completion !== VIRTIO_BLK_S_OK) throw new Error(`${what}: status ${completion}`);
  }

  function transfer(sector: number, bytes: Uint8Array, write: boolean): void {
    const buffer = driver.allocateBuffer(BUFFER_SIZE);
    try {
      for (let at = 0; at < bytes.length; at += BUFFER_SIZE) {
        const part = bytes.subarray(at, at + BUFFER_SIZE);
        const where = sector + at / VIRTIO_BLK_SECTOR_SIZE;
        if (write) driver.memory.u8.set(part, buffer);
        complete(
          (token) =>
            write
              ? driver.submitWrite(where, buffer, part.length, token)
              : driver.submitRead(where, buffer, part.length, token),
          `${write ? 'Write' : 'Read'} of ${part.length} bytes at sector ${where}`,
        );
        if (!write) part.set(driver.memory.u8.subarray(buffer, buffer + part.length));
      }
    } finally {
      driver.freeBuffer(buffer);
    }
  }

  return {
    sectorCount,
    readSync: (sector, bytes) => transfer(sector, bytes, false),
    writeSync: (sector, bytes) => transfer(sector, bytes, true),
    flushSync: () => complete((token) => driver.submitFlush(token), 'Flush'),
  };
}
