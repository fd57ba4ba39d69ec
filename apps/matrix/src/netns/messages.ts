import type { FeatureBits } from '@virtlab/abi/brands';

/** A wire from one network namespace to another: whose ends are TAP interfaces, with a virtio card in between. */
export interface WireRequest {
  readonly op: 'wire';
  /** Namespace and interface of the end that domain 0's device is plugged into. */
  readonly namespace: string;
  readonly tap: string;
  readonly mtu: number;
}

export type NetnsRequest = WireRequest | { readonly op: 'report' } | { readonly op: 'shutdown' };

/** What the guest, whose end of the wire is in the other namespace, is told. */
export interface GuestArguments {
  readonly namespace: string;
  readonly tap: string;
  readonly wanted: FeatureBits;
}

/** What passed through driver, rings and device. */
export interface WireReport {
  readonly driver: Readonly<Record<string, number>>;
  readonly features: readonly string[];
  readonly leaks: readonly string[];
}

/** `connectDevices` finds one device for each type; the guest's arguments travel in the program. */
export interface GuestRequest {
  readonly wire: WireRequest;
  readonly guest: GuestArguments;
}
