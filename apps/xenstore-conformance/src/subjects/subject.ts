import type { ByteStream, RingClient } from '@virtlab/xenstore';

/** A domain for the daemon alone: a ring page and an event channel. */
export interface DomainEnd {
  /** What INTRODUCE says about it. */
  readonly gfn: number;
  readonly port: number;
  /** Connects to the ring as it is now; whoever was connected before hears nothing any more. */
  connect(): RingClient;
  /** `server_features` and `error` of the ring page. */
  ringState(): { readonly features: number; readonly error: number };
}

/** One running daemon, with no client yet. */
export interface RunningDaemon {
  connectSocket(): Promise<ByteStream>;
  /** Makes the domain exist. */
  createDomain(domid: number): Promise<DomainEnd>;
  shutdownDomain(domid: number): void;
  destroyDomain(domid: number): void;
  /** Time after which it forgives a domain one conflict that it caused, if it keeps account of that. */
  readonly conflictTickMs?: number;
  /** What it wrote to its standard error; empty when it has none. */
  readonly messages: string;
  close(): Promise<void>;
}

/** A xenstored to be compared with another. */
export interface Subject {
  readonly name: string;
  start(): Promise<RunningDaemon>;
}
