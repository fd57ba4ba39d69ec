/** What a vhost-user daemon is to do: plain data, made from the options in the main thread and carried out in the device's own. */

export interface DaemonPlan {
  readonly device: BlkPlan | NetPlan | RngPlan | ModulePlan;
  /** A device serves one; a switch has a port for each. */
  readonly places: readonly Place[];
  /** How long the device's thread looks for work before it sleeps, at most; it finds out how long pays. */
  readonly pollNs: number;
  /** `poll`: the thread blocks in poll(2). `events`: it is woken through Node's event loop. */
  readonly loop: 'poll' | 'events';
}

/** Where the VhostUserFrontend finds the device: a socket to be made, or one that was inherited, listening or connected. */
export type Place = { readonly socketPath: string } | { readonly fd: number };

export interface BlkPlan {
  readonly kind: 'blk';
  readonly backend: 'raw' | 'memory' | 'null';
  /** The image; what memory begins with. */
  readonly file: string | undefined;
  /** Bytes of a disk without an image. */
  readonly size: number | undefined;
  readonly readOnly: boolean;
  readonly queueCount: number;
  readonly queueSize: number;
  readonly discard: boolean;
  readonly serial: string;
  /** Threads that queues are spread over, at most as many as these. */
  readonly threadCount: number;
}

export interface NetPlan {
  readonly kind: 'net';
  readonly mtu: number;
  /** Of each place in order. */
  readonly macs: readonly Uint8Array[];
  readonly queuePairs: number;
  readonly queueSize: number;
  /** Memory that its owner can shrink is taken. */
  readonly allowShrink: boolean;
  readonly tap: string | undefined;
  /** Sockets of streams that join the switch, that of its name among them. */
  readonly streams: readonly string[];
  readonly pcap: string | undefined;
}

export interface RngPlan {
  readonly kind: 'rng';
}

export interface ModulePlan {
  readonly kind: 'module';
  /** An absolute path. */
  readonly file: string;
}

export function placeName(place: Place): string {
  return 'fd' in place ? `fd ${place.fd}` : place.socketPath;
}
