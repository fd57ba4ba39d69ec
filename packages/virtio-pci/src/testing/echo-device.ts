import type { FeatureBits } from '@virtlab/abi/brands';
import { VIRTIO_ID_CONSOLE } from '@virtlab/abi/virtio';
import type { DeviceActivation, VirtioDevice } from '@virtlab/virtio';

/** Completes every request without touching it: enough of a device to drive registers, kicks and calls. */
export class EchoDevice implements VirtioDevice {
  readonly deviceType: number = VIRTIO_ID_CONSOLE;
  readonly features: FeatureBits = 0n;
  readonly queueSizesMax: readonly number[];
  readonly configSize = 16;
  activation: DeviceActivation | undefined;
  /** Set to hold a reset back until it is resolved. */
  resetHeld: Promise<void> | undefined;

  constructor(queueSizesMax: readonly number[] = [8, 8]) {
    this.queueSizesMax = queueSizesMax;
  }

  readConfig(offset: number, out: Uint8Array): void {
    for (let at = 0; at < out.length; at++) out[at] = offset + at;
  }

  activate(activation: DeviceActivation): void {
    this.activation = activation;
  }

  processQueue(queue: number): void {
    const ring = this.activation?.queues[queue];
    let isAny = false;
    for (let chain = ring?.pop(); chain !== undefined; chain = ring?.pop()) {
      ring!.push(chain, 0);
      isAny = true;
    }
    if (isAny) this.activation?.complete(queue);
  }

  reset(): void | Promise<void> {
    this.activation = undefined;
    return this.resetHeld;
  }
}
