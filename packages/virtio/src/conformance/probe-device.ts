import type { FeatureBits } from '@virtlab/abi/brands';
import { featureBits, hasFeature } from '@virtlab/abi/virtio';
import type { DescriptorChain, DeviceQueue } from '@virtlab/vring';
import type { DeviceActivation, VirtioDevice } from '../contract.ts';
import { ALL_RING_FEATURES } from '../features.ts';

/** Answers each request at once with the bytes that came with it. */
export const ECHO_QUEUE = 0;
/** Buffers that the device keeps in the ring until it has something to say, as a network card does. */
export const RECEIVE_QUEUE = 1;
/** Echoes too, but only when the test lets it, and the newest first. */
export const DEFERRED_QUEUE = 2;

/** The two feature bits with a dependency, and the whole offer: low, high, and past 32 and 64 bits of a register pair. */
export const PROBE_F_BASE = 0;
export const PROBE_F_NEEDS_BASE = 1;
export const PROBE_FEATURES: FeatureBits = featureBits(PROBE_F_BASE, PROBE_F_NEEDS_BASE, 7, 23, 50, 63);

export const PROBE_CONFIG_SIZE = 64;
/** Bytes from here on are the driver's to write; those before are all equal to one another at any moment. */
export const PROBE_CONFIG_WRITABLE_OFFSET = 32;
export const PROBE_CONFIG_INITIAL = 0x5c;

const PIECE_SIZE = 4096;

interface Deferred {
  readonly payload: Uint8Array;
  readonly chain: DescriptorChain;
}

/** The device that the transport suite talks to. Test code reaches into it; a transport sees a VirtioDevice. */
export class ProbeDevice implements VirtioDevice {
  readonly deviceType = 63;
  readonly features: FeatureBits = PROBE_FEATURES | ALL_RING_FEATURES;
  readonly queueSizesMax: readonly number[] = [64, 32, 8];
  readonly configSize: number = PROBE_CONFIG_SIZE;

  /** What happened so far. */
  activationCount = 0;
  resetCount = 0;
  queueResetCount = 0;
  takenCount = 0;
  /** While true, `reset` does not finish until `finishReset`. */
  isResetHeld = false;
  /** Thrown by the next `processQueue`: the device's bug. */
  nextError: Error | undefined;

  readonly #config = new Uint8Array(PROBE_CONFIG_SIZE).fill(
    PROBE_CONFIG_INITIAL,
    0,
    PROBE_CONFIG_WRITABLE_OFFSET,
  );
  readonly #piece = new Uint8Array(PIECE_SIZE);
  #activation: DeviceActivation | undefined;
  #resetHeld: PromiseWithResolvers<void> | undefined;
  #queueResetsHeld: PromiseWithResolvers<void>[] = [];
  #deferred: Deferred[] = [];

  get deferredCount(): number {
    return this.#deferred.length;
  }
  /** The driver's part of the configuration. */
  get written(): Uint8Array {
    return this.#config.slice(PROBE_CONFIG_WRITABLE_OFFSET);
  }

  readConfig(offset: number, out: Uint8Array): void {
    out.set(this.#config.subarray(offset, offset + out.length));
  }

  writeConfig(offset: number, bytes: Uint8Array): void {
    if (offset >= PROBE_CONFIG_WRITABLE_OFFSET) this.#config.set(bytes, offset);
  }

  /** Fills the device's part of the configuration with `value` and tells the driver. */
  setConfig(value: number): void {
    this.#config.fill(value, 0, PROBE_CONFIG_WRITABLE_OFFSET);
    this.#activation?.configChanged();
  }

  refuseFeatures(features: FeatureBits): string | undefined {
    const isAlone = hasFeature(features, PROBE_F_NEEDS_BASE) && !hasFeature(features, PROBE_F_BASE);
    return isAlone ? `Bit ${PROBE_F_NEEDS_BASE} needs bit ${PROBE_F_BASE}` : undefined;
  }

  activate(activation: DeviceActivation): void {
    this.activationCount += 1;
    this.#activation = activation;
  }

  processQueue(queue: number): void {
    const error = this.nextError;
    this.nextError = undefined;
    if (error !== undefined) throw error;
    if (queue === ECHO_QUEUE) this.#echoAll();
    if (queue === DEFERRED_QUEUE) this.#takeAll();
  }

  reset(): void | Promise<void> {
    this.resetCount += 1;
    this.#activation = undefined;
    if (!this.isResetHeld) {
      this.#deferred = [];
      return undefined;
    }
    this.#resetHeld = Promise.withResolvers<void>();
    return this.#resetHeld.promise;
  }

  resetQueue(queue: number): void | Promise<void> {
    this.queueResetCount += 1;
    if (!this.isResetHeld) {
      this.#forget(queue);
      return undefined;
    }
    const held = Promise.withResolvers<void>();
    this.#queueResetsHeld.push(held);
    return held.promise.then(() => this.#forget(queue));
  }

  finishReset(): void {
    this.isResetHeld = false;
    for (const held of this.#queueResetsHeld.splice(0)) held.resolve();
    this.#deferred = [];
    this.#resetHeld?.resolve();
  }

  /** Breaks with the driver, as a device does that was asked for nonsense. */
  fail(message: string): void {
    this.#activation?.fail({ section: '2.1.2', message });
  }

  /** Puts `bytes` into the next receive buffer; false when there is none. */
  deliver(bytes: Uint8Array): boolean {
    const ring = this.#activation?.queues[RECEIVE_QUEUE];
    const chain = ring?.pop();
    if (ring === undefined || chain === undefined) return false;
    ring.push(chain, chain.write(0, bytes) ? bytes.length : 0);
    this.#activation?.complete(RECEIVE_QUEUE);
    return true;
  }

  /** Answers what it holds back, newest first, in one batch. */
  completeDeferred(): void {
    const ring = this.#activation?.queues[DEFERRED_QUEUE];
    if (ring === undefined) return;
    for (const { chain, payload } of this.#deferred.toReversed()) {
      ring.push(chain, chain.write(0, payload) ? payload.length : 0);
    }
    this.#deferred = [];
    this.#activation?.complete(DEFERRED_QUEUE);
  }

  #forget(queue: number): void {
    if (queue === DEFERRED_QUEUE) this.#deferred = [];
  }

  #echoAll(): void {
    const ring = this.#activation?.queues[ECHO_QUEUE];
    let isAny = false;
    for (let chain = ring?.pop(); chain !== undefined; chain = ring?.pop()) {
      this.takenCount += 1;
      ring!.push(chain, this.#echo(chain));
      isAny = true;
    }
    if (isAny) this.#activation?.complete(ECHO_QUEUE);
  }

  #echo(chain: DescriptorChain): number {
    const size = Math.min(chain.readableSize, chain.writableSize);
    for (let at = 0; at < size; at += PIECE_SIZE) {
      const piece = size - at < PIECE_SIZE ? this.#piece.subarray(0, size - at) : this.#piece;
      chain.read(at, piece);
      chain.write(at, piece);
    }
    return size;
  }

  #takeAll(): void {
    const ring: DeviceQueue | undefined = this.#activation?.queues[DEFERRED_QUEUE];
    for (let chain = ring?.pop(); chain !== undefined; chain = ring?.pop()) {
      this.takenCount += 1;
      const payload = new Uint8Array(Math.min(chain.readableSize, chain.writableSize));
      chain.read(0, payload);
      this.#deferred.push({ chain, payload });
    }
  }
}
