import { VIRTIO_ID_BLOCK, VIRTIO_ID_NET } from '@virtlab/abi/virtio';
import { type AioContext, createPrng } from '@virtlab/aio';
import {
  type DeviceLinks,
  type Domain,
  connectDevices,
  connectOwnXenstore,
  onShutdownRequest,
} from '@virtlab/domain';
import { TransportError } from '@virtlab/virtio';
import { BlkError, createBlkDriver } from '@virtlab/virtio-blk';
import { createNetDriver } from '@virtlab/virtio-net';
import type { GuestArguments, SurvivorStatus, WriterArguments } from './messages.ts';
import { BLOCK_COUNT, blockOf, verifyDisk, writeGeneration } from './numbered-disk.ts';
import { pause } from './pause.ts';
import { sendFrames } from './writer.ts';

const BATCH_MAX = 4;
/** Whoever tries again in vain shall not keep the domain from its other work. */
const RETRY_PAUSE_MS = 5;
const WORK_PAUSE_MS = 2;

/**
 * Writes and flushes for ever, with frames on the wire. When its devices die it waits for them to come back, checks that all
 * that it flushed is there, and goes on. Anything else is its panic.
 */
export async function runSurvivor(domain: Domain, { bus, args }: GuestArguments): Promise<void> {
  const { seed } = args as WriterArguments;
  const store = connectOwnXenstore(domain);
  const status = { flushes: 0, losses: 0, reconnects: 0 };
  domain.connection.onRequest((): SurvivorStatus => ({ ...status }));
  const links = await whenServed(domain.aio, async () => await connectDevices(domain, store, bus));
  const life = new Life(domain, links, createPrng(seed), status);
  const living = life.run();
  const leave = async (): Promise<void> => {
    life.stop();
    await living;
    await links[Symbol.asyncDispose]();
    store.close();
    domain.console({ kind: 'leaks', leaks: domain.leaks() });
    await domain.shutdown('poweroff');
  };
  await onShutdownRequest(store, domain.id, () => void leave());
}

class Life {
  readonly #domain: Domain;
  readonly #links: DeviceLinks;
  readonly #prng: ReturnType<typeof createPrng>;
  readonly #status: { flushes: number; losses: number; reconnects: number };
  readonly #acknowledged: number[] = Array.from({ length: BLOCK_COUNT }, () => 0);
  readonly #stop = new AbortController();

  constructor(
    domain: Domain,
    links: DeviceLinks,
    prng: ReturnType<typeof createPrng>,
    status: { flushes: number; losses: number; reconnects: number },
  ) {
    this.#domain = domain;
    this.#links = links;
    this.#prng = prng;
    this.#status = status;
  }

  stop(): void {
    this.#stop.abort();
  }

  async run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      try {
        await this.#work();
      } catch (error) {
        if (!isLoss(error)) throw error;
        this.#status.losses += 1;
        if (this.#stop.signal.aborted) return;
        await this.#reconnect();
      }
    }
  }

  /** Ends when it is stopped; rejects when a device is lost, with both drivers closed. */
  async #work(): Promise<void> {
    const { aio } = this.#domain;
    const link = (type: number): Parameters<typeof createBlkDriver>[0] => {
      const found = this.#links.byType.get(type);
      if (found === undefined) throw new TransportError('ENODEV', `No device of the type ${type}`);
      return found;
    };
    const disk = await createBlkDriver(link(VIRTIO_ID_BLOCK), { aio });
    try {
      await using net = await createNetDriver(link(VIRTIO_ID_NET), { aio });
      let from = (await verifyDisk(disk, this.#acknowledged)) + 1;
      while (!this.#stop.signal.aborted) {
        const to = from + this.#prng.below(BATCH_MAX);
        const generations = Array.from({ length: to - from + 1 }, (_, index) => from + index);
        sendFrames(net);
        await Promise.all(generations.map((generation) => writeGeneration(disk, generation)));
        await disk.flush();
        for (const generation of generations) this.#acknowledged[blockOf(generation)] = generation;
        this.#status.flushes += 1;
        from = to + 1;
        await pause(aio, WORK_PAUSE_MS); // the machine has others to boot
      }
    } finally {
      await disk.close();
    }
  }

  async #reconnect(): Promise<void> {
    const { signal } = this.#stop;
    for (const type of [VIRTIO_ID_BLOCK, VIRTIO_ID_NET]) {
      try {
        await this.#links.reconnect(type, { signal });
      } catch (error) {
        if (signal.aborted) return;
        if (!isLoss(error)) throw error; // lost again on the way: the next round begins here
        await pause(this.#domain.aio, RETRY_PAUSE_MS);
      }
    }
    this.#status.reconnects += 1;
  }
}

const LOSSES = new Set(['ENODEV', 'EIO', 'ETIMEDOUT']);

function isLoss(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  return LOSSES.has(code) || (error instanceof BlkError && error.code === 'ENODEV');
}

/** The driver domain may die while this one boots. */
async function whenServed<T>(aio: AioContext, connect: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await connect();
    } catch (error) {
      if (!isLoss(error)) throw error;
      await pause(aio, RETRY_PAUSE_MS);
    }
  }
}
