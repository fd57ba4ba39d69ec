/** What the launcher asks the programs of the domains, and what they answer. Plain data, over the hypervisor's socket. */

export type TransportName = 'pci' | 'xenbus';

/** Arguments of the program of a domU. */
export interface DomUArguments {
  readonly transport: TransportName;
  readonly index: number;
  readonly mac: string;
  readonly ip: string;
  readonly hasDisk: boolean;
}

export interface DiskConfig {
  readonly path: string;
  /** An image that is not ours is never written to. */
  readonly readOnly: boolean;
}

export interface Dom0Arguments {
  readonly ip: string;
  readonly mac: string;
  readonly pcap: string | undefined;
  readonly tap: string | undefined;
}

/** One entry of each: how a domain is asked. `launcher to domain` is `{ op, ... }`. */
export interface Dom0Requests {
  create(request: { readonly guest: DomUArguments; readonly disk: DiskConfig | undefined }): CreatedGuest;
  /** All nodes, a line each, indented by depth: `name` or `name = "value"`. */
  tree(): readonly string[];
  udpCount(): UdpCountAnswer;
  /** Shuts all guests down, in order; answers what each left behind. */
  stopGuests(): StopAnswer;
  /** Ends domain 0's services; answers what is still held. */
  shutdown(): readonly string[];
}

export interface CreatedGuest {
  readonly domain: number;
  readonly buildMs: number;
}

export interface StopAnswer {
  /** Domains that did not go by themselves. */
  readonly destroyed: readonly number[];
  readonly leaks: readonly string[];
}

export interface UdpCountAnswer {
  readonly datagrams: number;
  readonly bytes: number;
  readonly outOfOrder: number;
}

export interface DomURequests {
  devices(): DevicesAnswer;
  rng(request: { readonly size: number }): { readonly hex: string };
  filesystem(request: { readonly fileCount: number; readonly fileSize: number }): FilesystemAnswer;
  /** Names in the root of an existing FAT image, or undefined if it has none. */
  listing(): { readonly files: readonly { readonly name: string; readonly size: number }[] | undefined };
  checksum(): ChecksumAnswer;
  random(request: RandomRequest): RandomAnswer;
  ping(request: { readonly ip: string; readonly count: number; readonly size: number }): PingAnswer;
  blast(request: { readonly ip: string; readonly size: number; readonly durationMs: number }): BlastAnswer;
  udpCount(): UdpCountAnswer;
  stop(): { readonly leaks: readonly string[] };
}

export interface DevicesAnswer {
  /** From the program's first line to every driver running. */
  readonly connectMs: number;
  readonly devices: readonly {
    readonly name: string;
    readonly features: readonly string[];
    readonly detail: string;
  }[];
  /** Trapped PCI accesses until then; 0 over xenbus. */
  readonly trapCount: number;
}

export interface FilesystemAnswer {
  readonly formatMs: number;
  readonly writeMs: number;
  readonly readMs: number;
  readonly bytes: number;
  readonly files: readonly { readonly name: string; readonly sha256: string }[];
}

export interface ChecksumAnswer {
  readonly bytes: number;
  readonly sha256: string;
  readonly durationMs: number;
}

export interface RandomRequest {
  readonly depth: number;
  readonly durationMs: number;
  /** Of every 100 requests, how many write. */
  readonly writePercent: number;
  readonly blockSize: number;
  readonly seed: number;
}

export interface RandomAnswer {
  readonly operations: number;
  readonly durationMs: number;
  /** Microseconds. */
  readonly latencyMedian: number;
  readonly latencyP99: number;
  readonly kicks: number;
  readonly calls: number;
  /** Blocks whose content was checked against what was last written there. */
  readonly verified: number;
}

export interface PingAnswer {
  readonly sent: number;
  readonly received: number;
  readonly rttMin: number;
  readonly rttMedian: number;
  readonly rttMax: number;
}

export interface BlastAnswer {
  readonly sent: number;
  readonly durationMs: number;
  readonly kicks: number;
  readonly calls: number;
}

/** What a program writes to the console unasked. */
export type ConsoleRecord =
  | { readonly kind: 'up'; readonly sinceStartMs: number }
  | { readonly kind: 'progress'; readonly fraction: number }
  | { readonly kind: 'warning'; readonly message: string }
  | { readonly kind: 'panic'; readonly message: string };

/** Answers to requests, by name. */
export type RequestTable<R extends { [Op in keyof R]: (...args: never[]) => unknown }> = {
  readonly [Op in keyof R]: (...args: Parameters<R[Op]>) => ReturnType<R[Op]> | Promise<ReturnType<R[Op]>>;
};

/** Makes the one handler that a domain's connection wants from a table. */
export function serve(table: object): (message: unknown) => unknown {
  return (message) => {
    const { op } = message as { op: string };
    const handler: unknown = Object.hasOwn(table, op) ? (table as Record<string, unknown>)[op] : undefined;
    if (typeof handler !== 'function') throw new TypeError(`There is no request ${op}`);
    return (handler as (request: unknown) => unknown)(message);
  };
}
