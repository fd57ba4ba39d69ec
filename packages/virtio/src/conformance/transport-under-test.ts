import type { AioContext } from '@virtlab/aio';
import type { DriverLink, VirtioDevice } from '../contract.ts';
import type { DeviceHost } from '../device-host.ts';

/** One isolated driver and device, connected. */
export interface TransportUnderTest {
  readonly link: DriverLink;
  /** The loop of the driver's side. */
  readonly driverAio: AioContext;
  /** The model in front of the suite's device, in the same process as the suite. */
  readonly host: DeviceHost;
  /** Lets both sides run until there is nothing left to do, deadlines far away excepted. */
  settle(): Promise<void>;
  /** Takes the device away under the driver's hands: unplugged, or its domain killed. Absent where that cannot happen. */
  removeDevice?(): Promise<void>;
  /** Ends both sides and names what they still hold: grants, mappings, ports, watches, handlers, memory. */
  close(): Promise<readonly string[]>;
}

export interface TransportSetup {
  readonly name: string;
  create(options: { readonly device: VirtioDevice }): Promise<TransportUnderTest>;
  /** Small requests in the endurance test; above 65536 the 16-bit indices wrap. Default: three laps of the ring. */
  readonly enduranceCount?: number;
  /** Whether the drivers of the suite take part in their loop's polling. Default true. */
  readonly polling?: boolean;
}
