import { setTimeout as sleep } from 'node:timers/promises';
import { featureBits, VIRTIO_ID_NET } from '@virtlab/abi/virtio';
import { VIRTIO_NET_F_MRG_RXBUF } from '@virtlab/abi/virtio-net';
import { VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC } from '@virtlab/abi/virtio-ring';
import { createNodeAioContext } from '@virtlab/aio/node';
import { connectVhostUser } from '@virtlab/vhost-user';
import { type NetDriver, createNetDriver } from '@virtlab/virtio-net';
import { type RunResult, elapsedNs } from '../contender.ts';
import { BATCH_COUNT, CARD_MAC, FloodFrame, STATION_MAC, readNumber } from '../net/frames.ts';

/** What every device here offers, and a card needs for frames of any size. */
const WANTED = featureBits(VIRTIO_RING_F_INDIRECT_DESC, VIRTIO_RING_F_EVENT_IDX, VIRTIO_NET_F_MRG_RXBUF);
const MEMORY_SIZE = 4 << 20;
/** Frames on their way: half of what a receive ring takes, so that nobody has a reason to drop one. */
const WINDOW = 128;
const TIMEOUT_MS = 20_000;

/** Two cards of a switch, both driven by this thread: frames go in at one and come out at the other. */
export class CardPair implements AsyncDisposable {
  readonly #sender: NetDriver;
  readonly #receiver: NetDriver;
  readonly #close: () => Promise<void>;

  private constructor(sender: NetDriver, receiver: NetDriver, close: () => Promise<void>) {
    this.#sender = sender;
    this.#receiver = receiver;
    this.#close = close;
  }

  static async connect(paths: readonly [string, string]): Promise<CardPair> {
    await using stack = new AsyncDisposableStack();
    const aio = stack.use(createNodeAioContext());
    const drivers: NetDriver[] = [];
    for (const path of paths) {
      const link = await connectVhostUser({ path, aio, deviceType: VIRTIO_ID_NET, memorySize: MEMORY_SIZE });
      stack.use(link);
      drivers.push(stack.use(await createNetDriver(link, { aio, wanted: WANTED })));
    }
    const held = stack.move();
    return new CardPair(drivers[0]!, drivers[1]!, () => held.disposeAsync());
  }

  /** Sends so many numbered frames of `size` bytes, and resolves when all have come, in order. */
  async run(size: number, count: number): Promise<RunResult> {
    const before = this.#doorbells();
    const start = performance.now();
    await this.#move(size, count);
    const elapsed = elapsedNs(start);
    const after = this.#doorbells();
    const doorbells = { kicks: after.kicks - before.kicks, calls: after.calls - before.calls };
    return { operationCount: count, elapsedNs: elapsed, doorbells };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close();
  }

  #doorbells(): { readonly kicks: number; readonly calls: number } {
    const [one, other] = [this.#sender.statistics, this.#receiver.statistics];
    return { kicks: one.kicks + other.kicks, calls: one.calls + other.calls };
  }

  async #move(size: number, count: number): Promise<void> {
    const frame = new FloodFrame(size, CARD_MAC, STATION_MAC);
    const done = Promise.withResolvers<void>();
    const sender = this.#sender;
    let sent = 0;
    let received = 0;
    const fill = (): void => {
      for (; sent < count && sent - received < WINDOW; sent += 1) {
        if (!sender.send(frame.set(sent))) return;
        if (sent % BATCH_COUNT === BATCH_COUNT - 1) sender.kick();
      }
      sender.kick();
    };
    const receive = (bytes: Uint8Array): void => {
      if (readNumber(bytes) !== received) done.reject(new Error(`Frame ${received} did not come next`));
      received += 1;
      if (received === count) done.resolve();
    };
    this.#receiver.onFrame(receive, fill);
    sender.onWritable(fill);
    const ended = new AbortController();
    try {
      fill();
      await Promise.race([done.promise, this.#silence(ended.signal, () => `${received} of ${count} came`)]);
    } finally {
      ended.abort();
      sender.onWritable(undefined);
      this.#receiver.onFrame(undefined);
    }
  }

  async #silence(signal: AbortSignal, words: () => string): Promise<never> {
    try {
      await sleep(TIMEOUT_MS, undefined, { signal });
    } catch {
      return await new Promise<never>(() => {});
    }
    throw new Error(`${words()}: ${this.#sender.failure ?? this.#receiver.failure ?? 'the rest is lost'}`);
  }
}
