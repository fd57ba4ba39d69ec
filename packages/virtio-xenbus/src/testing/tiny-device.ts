import type { FeatureBits } from '@virtlab/abi/brands';
import type { DeviceActivation, VirtioDevice } from '@virtlab/virtio';

/** The least that is a device: one queue whose buffers it hands back as they are, eight bytes of configuration. */
export class TinyDevice implements VirtioDevice {
  readonly deviceType = 42;
  readonly features: FeatureBits = 1n;
  readonly queueSizesMax: readonly number[] = [8];
  readonly configSize = 8;
  /** The driver may write all of it. */
  readonly config: Uint8Array = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
  doneCount = 0;
  /** What `reset` returns: I/O in flight that it waits for. */
  draining: Promise<void> | undefined;
  /** I/O in flight that the reset of one queue waits for. */
  drainQueue: (() => Promise<void>) | undefined;
  #activation: DeviceActivation | undefined;

  get isActive(): boolean {
    return this.#activation !== undefined;
  }

  readConfig(offset: number, out: Uint8Array): void {
    out.set(this.config.subarray(offset, offset + out.length));
  }

  writeConfig(offset: number, bytes: Uint8Array): void {
    this.config.set(bytes, offset);
  }

  /** Says that `config` changed. */
  announceConfig(): void {
    this.#activation?.configChanged();
  }

  activate(activation: DeviceActivation): void {
    this.#activation = activation;
  }

  processQueue(queue: number): void {
    const ring = this.#activation?.queues[queue];
    for (let chain = ring?.pop(); chain !== undefined; chain = ring?.pop()) {
      ring!.push(chain, 0);
      this.doneCount += 1;
    }
    this.#activation?.complete(queue);
  }

  resetQueue(): void | Promise<void> {
    return this.drainQueue?.();
  }

  reset(): void | Promise<void> {
    this.#activation = undefined;
    return this.draining;
  }
}
