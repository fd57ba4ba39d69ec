import { expect } from 'vitest';
import type { FeatureBits } from '@virtlab/abi/brands';
import type { AioContext } from '@virtlab/aio';
import type { DriverLink, DriverTransport } from '../contract.ts';
import type { DeviceHost } from '../device-host.ts';
import type { DriverSession } from '../driver-session.ts';
import { RING_FEATURES } from '../features.ts';
import { initializeDevice } from '../initialize-device.ts';
import { runUntil, runUntilDone } from '../testing/run-until.ts';
import { skipOutsideLegacy } from './legacy-scope.ts';
import { PROBE_FEATURES, ProbeDevice } from './probe-device.ts';
import type { TransportSetup, TransportUnderTest } from './transport-under-test.ts';

/** A connected probe device, and the moves that most tests are made of. */
export class Bench {
  readonly device: ProbeDevice;
  readonly #under: TransportUnderTest;
  readonly #polling: boolean;

  constructor(device: ProbeDevice, under: TransportUnderTest, polling: boolean = true) {
    this.device = device;
    this.#under = under;
    this.#polling = polling;
  }

  get link(): DriverLink {
    return this.#under.link;
  }
  get transport(): DriverTransport {
    return this.#under.link.transport;
  }
  get driverAio(): AioContext {
    return this.#under.driverAio;
  }
  get host(): DeviceHost {
    return this.#under.host;
  }
  get removeDevice(): (() => Promise<void>) | undefined {
    return this.#under.removeDevice?.bind(this.#under);
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

  /** Brings the device up with `wanted` of its features. */
  async start(wanted: FeatureBits = PROBE_FEATURES | RING_FEATURES): Promise<DriverSession> {
    const options = { aio: this.driverAio, wanted, polling: this.#polling };
    return await this.run(initializeDevice(this.link, options));
  }

  /** Writes the status words one after the other. */
  async writeStatuses(...statuses: readonly number[]): Promise<void> {
    for (const status of statuses) await this.run(this.transport.writeStatus(status));
  }
  async readStatus(): Promise<number> {
    return await this.run(this.transport.readStatus());
  }

  async close(): Promise<readonly string[]> {
    return await this.run(this.#under.close());
  }
}

/** Runs `body` against a fresh device and transport, ends both, and asserts that nothing is left. */
export async function withBench(setup: TransportSetup, body: (bench: Bench) => Promise<void>): Promise<void> {
  const device = new ProbeDevice();
  const bench = new Bench(device, await setup.create({ device }), setup.polling);
  try {
    skipOutsideLegacy(bench.transport);
    await body(bench);
  } catch (error) {
    device.finishReset();
    await bench.close().catch(() => undefined);
    throw error;
  }
  expect(await bench.close(), 'what is still held after close').toEqual([]);
}

/** Every set of ring features, each with the probe's own, for tests that must hold in all of them. */
export function ringVariants(ring: Readonly<Record<string, FeatureBits>>): readonly [string, FeatureBits][] {
  const single = Object.entries(ring);
  const all = single.reduce((bits, [, bit]) => bits | bit, 0n);
  return [
    ['neither', PROBE_FEATURES],
    ...single.map(([name, bit]): [string, FeatureBits] => [name, PROBE_FEATURES | bit]),
    ['both', PROBE_FEATURES | all],
  ];
}
