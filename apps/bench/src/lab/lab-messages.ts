import type { DeviceBus } from '@virtlab/domain';

/** What domain 0 of a benchmark is asked: to create a guest with a device, and start its program. It answers the guest's id. */
export interface Dom0Request {
  readonly name: string;
  readonly bus: DeviceBus;
  readonly module: string;
  /** What the guest's device is to be like, in the words of domain 0's program. */
  readonly device: unknown;
}

export interface GuestArguments {
  readonly bus: DeviceBus;
}
