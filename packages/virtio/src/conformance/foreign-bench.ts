import { expect } from 'vitest';
import type { FeatureBits } from '@virtlab/abi/brands';
import type { AioContext } from '@virtlab/aio';
import type { DriverLink, DriverTransport } from '../contract.ts';
import type { DriverSession } from '../driver-session.ts';
import { RING_FEATURES } from '../features.ts';
import { type InitializeOptions, initializeDevice } from '../initialize-device.ts';
import { runUntil, runUntilDone } from '../testing/run-until.ts';

/** Requests of the type of device at hand, staged on one of its queues by who knows the type. */
export interface ForeignClient {
  /** Stages a request; false when the ring is full. The suite kicks. */
  add(): boolean;
  /** Takes what is used; the client also does so when called. */
  collect(): void;
  readonly pendingCount: number;
  readonly doneCount: number;
  /** What was wrong with answers. */
  readonly faults: readonly string[];
  /** The device was stopped: frees what was in flight. */
  abandon(): void;
}

/** A driver's end of a device that is somebody else's work. */
export interface ForeignUnderTest {
  readonly link: DriverLink;
  readonly driverAio: AioContext;
  /** Lets the driver's loop run, and the device have some time. */
  settle(): Promise<void>;
  /** Ends the link and names what is still held. */
  close(): Promise<readonly string[]>;
}

/** Requirements that a known device does not meet. The value says what it does instead; the test is then skipped. */
export type Divergences = Readonly<Record<string, string>>;

export interface ForeignSetup {
  readonly name: string;
  readonly deviceType: number;
  create(): Promise<ForeignUnderTest>;
  /** Of the type, what the client needs. */
  readonly features?: FeatureBits;
  /** The queue that the client uses; it and those before it are set up. */
  readonly queue: number;
  createClient(session: DriverSession): ForeignClient;
  /** Of a buffer on that queue: `VRING_DESC_F_WRITE` if the device fills it. Default 0. */
  readonly bufferFlags?: number;
  /** Requests in the endurance test; above 65536 the 16-bit indices wrap. Default three laps of the ring. */
  readonly enduranceCount?: number;
  /** By the title of a test, or the beginning of it. */
  readonly divergences?: Divergences;
}

/** The moves that most tests on a foreign device are made of. */
export class ForeignBench {
  readonly #setup: ForeignSetup;
  readonly #under: ForeignUnderTest;

  constructor(setup: ForeignSetup, under: ForeignUnderTest) {
    this.#setup = setup;
    this.#under = under;
  }

  get link(): DriverLink {
    return this.#under.link;
  }
  get transport(): DriverTransport {
    return this.#under.link.transport;
  }
  get queue(): number {
    return this.#setup.queue;
  }
  get bufferFlags(): number {
    return this.#setup.bufferFlags ?? 0;
  }

  async settle(): Promise<void> {
    await this.#under.settle();
  }
  async run<T>(work: Promise<T>): Promise<T> {
    return await runUntilDone(this.#under, work);
  }
  async until(what: string, condition: () => boolean): Promise<void> {
    await runUntil(this.#under, what, condition);
  }
  async writeStatuses(...statuses: readonly number[]): Promise<void> {
    for (const status of statuses) await this.run(this.transport.writeStatus(status));
  }
  async readStatus(): Promise<number> {
    return await this.run(this.transport.readStatus());
  }

  /** Without polling, so that every completion needs its call. */
  async start(
    ring: FeatureBits = RING_FEATURES,
    more: Partial<InitializeOptions> = {},
  ): Promise<DriverSession> {
    const wanted = (this.#setup.features ?? 0n) | ring;
    const options = {
      aio: this.#under.driverAio,
      wanted,
      queueCount: this.queue + 1,
      polling: false,
      ...more,
    };
    return await this.run(initializeDevice(this.link, options));
  }
  client(session: DriverSession): ForeignClient {
    return this.#setup.createClient(session);
  }

  /** Has `count` requests done. */
  async exchange(session: DriverSession, client: ForeignClient, count: number): Promise<void> {
    const target = client.doneCount + count;
    for (let left = count; left > 0;) {
      for (; left > 0 && client.add(); left -= 1) continue;
      session.kick(this.queue);
      await this.until('the batch is back', () => client.pendingCount === 0);
    }
    expect([client.faults, client.doneCount]).toEqual([[], target]);
  }

  /** Brings the device up, has something done, and stops it. */
  async exerciseOnce(ring?: FeatureBits): Promise<void> {
    const session = await this.start(ring);
    await this.exchange(session, this.client(session), 3);
    await this.run(session.stop());
  }

  async close(): Promise<readonly string[]> {
    return await this.run(this.#under.close());
  }
}

/** Runs `body` against a fresh link and ends it; what is left. */
export async function withForeign(
  setup: ForeignSetup,
  body: (bench: ForeignBench) => Promise<void>,
): Promise<readonly string[]> {
  const bench = new ForeignBench(setup, await setup.create());
  try {
    await body(bench);
  } catch (error) {
    await bench.close().catch(() => undefined);
    throw error;
  }
  return await bench.close();
}
