import { closeFd } from '@virtlab/linux';
import { badAnswer } from './frontend-fault.ts';
import type { FrontendChannel } from './frontend-channel.ts';
import type { InflightArea } from './payload-memory.ts';

/**
 * "Inflight I/O tracking": memory of the device's own in which it remembers what it has begun. Kept here, and never looked
 * into, so that the next process can be given it.
 */
export class FrontendInflight implements Disposable {
  #kept: { readonly area: InflightArea; readonly fd: number } | undefined;

  /** A device that is given it knows what the one before had begun. */
  get isKept(): boolean {
    return this.#kept !== undefined;
  }

  /** Before rings are started. `sizes` are those of the queues. */
  async set(channel: FrontendChannel, sizes: readonly number[]): Promise<void> {
    if (!channel.has('INFLIGHT_SHMFD')) {
      this[Symbol.dispose]();
      return;
    }
    this.#kept ??= await ask(channel, Math.max(1, ...sizes));
    const { area, fd } = this.#kept;
    await channel.tell('SET_INFLIGHT_FD', area, [fd]);
  }

  /** The device was reset: nothing is in flight. */
  [Symbol.dispose](): void {
    if (this.#kept !== undefined) closeFd(this.#kept.fd);
    this.#kept = undefined;
  }
}

async function ask(
  channel: FrontendChannel,
  queueSize: number,
): Promise<{ readonly area: InflightArea; readonly fd: number }> {
  const { queueCount } = channel;
  const wanted: InflightArea = { size: 0n, offset: 0n, queueCount, queueSize };
  const reply = await channel.askForFds('GET_INFLIGHT_FD', wanted);
  using fds = reply.fds;
  const { size } = reply.value;
  if (size === 0n) throw channel.fail(badAnswer('GET_INFLIGHT_FD', 'mmap size', size, 'memory of some size'));
  const area = { ...reply.value, queueCount, queueSize };
  return { area, fd: fds.take()! };
}
