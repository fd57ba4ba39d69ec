import type { DeviceBus } from '@virtlab/domain';

/** What domain 0 of a benchmark is asked: to create a guest with a device, and start its program. It answers the guest's id. */
export interface Dom0Request {
  readonly bus: DeviceBus;
  readonly module: string;
}

export interface GuestArguments {
  readonly bus: DeviceBus;
}
