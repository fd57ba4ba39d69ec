import type { StoreOptions } from '@virtlab/xenstore';
import type { Domain } from './domain.ts';
import { type DeviceServer, createDeviceServer } from './device-server.ts';
import { type Toolstack, createToolstack } from './toolstack.ts';
import { type XenstoredService, startXenstored } from './xenstored.ts';

/** What domain 0 does for all others. */
export interface Dom0Services extends AsyncDisposable {
  readonly xenstored: XenstoredService;
  readonly toolstack: Toolstack;
  readonly devices: DeviceServer;
}

export interface Dom0Options {
  /** Of xenstored. */
  readonly store?: StoreOptions;
}

/** Starts domain 0's services; disposing ends them in order, after the guests. */
export async function startDom0(domain: Domain, options: Dom0Options = {}): Promise<Dom0Services> {
  const xenstored = await startXenstored(domain, options.store);
  const toolstack = createToolstack(domain, xenstored.store);
  const devices = await createDeviceServer(domain, xenstored.store, toolstack);
  return {
    xenstored,
    toolstack,
    devices,
    [Symbol.asyncDispose]: async () => {
      await devices[Symbol.asyncDispose]();
      await xenstored[Symbol.asyncDispose]();
    },
  };
}
