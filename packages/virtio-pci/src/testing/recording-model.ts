import type { FeatureBits } from '@virtlab/abi/brands';
import { VIRTIO_ID_RNG } from '@virtlab/abi/virtio';
import type { DeviceModel } from '@virtlab/virtio';

type QueueAddresses = Parameters<DeviceModel['enableQueue']>[1];

/** A device model that accepts everything and remembers it: what registers do to it is the whole test. */
export class RecordingModel implements DeviceModel {
  deviceType: number = VIRTIO_ID_RNG;
  configSize = 12;
  deviceFeatures: FeatureBits = 0n;
  driverFeatures: FeatureBits = 0n;
  status = 0;
  configGeneration = 0;
  queueSizes: number[] = [256, 128];
  /** What the next `enableQueue` answers. */
  acceptsQueues = true;
  acceptsLegacy = true;
  readonly enabled: Map<number, QueueAddresses> = new Map<number, QueueAddresses>();
  /** Queues whose reset is not over: `finishQueueReset` ends it. */
  readonly resetting: Set<number> = new Set<number>();
  /** Whether the next reset of a queue takes its time. */
  isQueueResetHeld = false;
  readonly queueResets: number[] = [];
  /** Sections of what the transport refused. */
  readonly refusals: string[] = [];
  readonly statusWrites: number[] = [];
  readonly kicks: number[] = [];
  readonly config: Uint8Array = new Uint8Array(64);
  readonly configWrites: { offset: number; bytes: number[] }[] = [];

  get queueCount(): number {
    return this.queueSizes.length;
  }

  writeDriverFeatures(features: FeatureBits): void {
    this.driverFeatures = features;
  }

  writeStatus(status: number): void {
    this.statusWrites.push(status);
    this.status = status;
    if (status === 0) this.enabled.clear();
  }

  queueSizeMax(queue: number): number {
    return this.queueSizes[queue] ?? 0;
  }

  isQueueEnabled(queue: number): boolean {
    return this.enabled.has(queue);
  }

  enableQueue(queue: number, addresses: QueueAddresses): boolean {
    if (this.acceptsQueues) this.enabled.set(queue, addresses);
    return this.acceptsQueues;
  }

  resetQueue(queue: number): boolean {
    this.queueResets.push(queue);
    if (this.isQueueResetHeld) this.resetting.add(queue);
    else this.enabled.delete(queue);
    return true;
  }

  finishQueueReset(queue: number): void {
    this.resetting.delete(queue);
    this.enabled.delete(queue);
  }

  /** As a device that can be driven either way. */
  useLegacy(): boolean {
    return this.acceptsLegacy;
  }

  isQueueResetting(queue: number): boolean {
    return this.resetting.has(queue);
  }

  refuse({ section }: Parameters<DeviceModel['refuse']>[0]): void {
    this.refusals.push(section);
  }

  readConfig(offset: number, out: Uint8Array): void {
    for (let at = 0; at < out.length; at++)
      out[at] = offset + at < this.configSize ? this.config[offset + at]! : 0;
  }

  writeConfig(offset: number, bytes: Uint8Array): void {
    this.configWrites.push({ offset, bytes: [...bytes] });
  }

  kick(queue: number): void {
    this.kicks.push(queue);
  }
}
