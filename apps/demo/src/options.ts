import type { TransportName } from './messages.ts';

export interface DemoOptions {
  readonly transports: readonly TransportName[];
  /** An existing raw image, used as it is and only read; undefined: an image of the demo's own. */
  readonly disk: string | undefined;
  /** Where the demo's own image is made and left; undefined: in a temporary folder that is removed. */
  readonly keepImage: string | undefined;
  readonly domains: number;
  readonly pcap: string | undefined;
  /** A TAP interface of this machine that is plugged into the switch: made if there is none of that name. */
  readonly tap: string | undefined;
  /** Length of each measurement. */
  readonly seconds: number;
  /** One JSON document on stdout instead of the report. */
  readonly json: boolean;
}

export const DEMO_DEFAULTS: DemoOptions = {
  transports: ['pci', 'xenbus'],
  disk: undefined,
  keepImage: undefined,
  domains: 2,
  pcap: undefined,
  tap: undefined,
  seconds: 1,
  json: false,
};

/** Guests that fit the demo's address plan and a small machine. */
export const DOMAINS_MAX = 16;

/** Something about the arguments or the machine that the demo cannot work with; `message` says what and where. */
export class DemoError extends Error {
  /** `usage`: the arguments. `environment`: what this machine lacks. `failed`: the lab did not do what it should. */
  readonly kind: 'usage' | 'environment' | 'failed';
  constructor(kind: DemoError['kind'], message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'DemoError';
    this.kind = kind;
  }
}
