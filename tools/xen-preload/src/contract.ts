/** Which of Xen's daemons: the one in C, or the one in OCaml. */
export type RealXenstoredKind = 'c' | 'oxenstored';

export interface RealXenstoredOptions {
  readonly kind: RealXenstoredKind;
  /** Another program of that kind than Debian's, by path. */
  readonly program?: string;
  /** More command line arguments, such as `-Q` quotas (C) . */
  readonly arguments?: readonly string[];
  /** More lines of the configuration file (oxenstored only), such as `quota-maxentity = 50`. */
  readonly configuration?: readonly string[];
}

/** Whether the daemon and a C compiler are on this machine. `reason` names the missing Debian package. */
export type RealXenstoredAvailability =
  | { readonly status: 'available'; readonly version: string }
  | { readonly status: 'missing'; readonly reason: string };

/** A domain that exists for the daemon alone: a ring page and one end of an event channel, without a process. */
export interface RealDomain {
  readonly domid: number;
  /** 4096-byte file that the daemon maps at INTRODUCE: `struct xenstore_domain_interface`. */
  readonly ringPath: string;
  /** Arguments of INTRODUCE: any frame number, and the port that the domain offers. */
  readonly gfn: number;
  readonly port: number;
  /** Sends on the domain's event channel. */
  kick(): void;
  /** `onEvent` is called whenever the daemon sends on it, until `close`. */
  listen(onEvent: () => void): void;
  close(): void;
}

/** A running daemon of Xen, without Xen. */
export interface RealXenstored {
  readonly kind: RealXenstoredKind;
  readonly pid: number;
  /** Unix socket for clients of domain 0. */
  readonly socketPath: string;
  /** Makes a domain exist; it is not yet introduced. */
  createDomain(domid: number): Promise<RealDomain>;
  /** The domain shuts down but stays, or dies: the daemon gets VIRQ_DOM_EXC. */
  shutdownDomain(domid: number): void;
  destroyDomain(domid: number): void;
  /** What the daemon wrote to its standard error so far. */
  readonly messages: string;
  /** Ends the process and removes everything that was made for it. */
  close(): Promise<void>;
}
