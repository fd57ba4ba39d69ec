/** testpmd's command line: EAL options, one `--vdev` a port, and the application's own. */
import { readFileSync } from 'node:fs';

export type ForwardMode = '5tswap' | 'csum' | 'icmpecho' | 'io' | 'mac' | 'macswap' | 'rxonly' | 'txonly';

/** Arguments of a `--vdev` in DPDK's spelling: `{ packed_vq: 1, mrg_rxbuf: 0 }`. */
export type VdevArguments = Readonly<Record<string, string | number>>;

/** A vhost-user port of testpmd. */
export interface TestpmdPort {
  /** `net_vhost` is a device, `net_virtio_user` a driver. */
  readonly kind: 'net_vhost' | 'net_virtio_user';
  /** Unix socket: `net_vhost` listens there, `net_virtio_user` connects. */
  readonly path: string;
  /** Default 1. */
  readonly queuePairs?: number;
  /** What else is said of it, and may override the rest. */
  readonly vdev?: VdevArguments;
}

export interface TestpmdOptions {
  /** One or more; with two, what comes in at one goes out at the other. */
  readonly ports: readonly TestpmdPort[];
  /** Default `io`. */
  readonly forwardMode?: ForwardMode;
  /** Pairs of queues that it polls of each port. Default the fewest that a port has. */
  readonly queuePairs?: number;
  /**
   * CPUs of the thread that forwards, which never sleeps, and of the one that reads commands: a list as `-l` takes it. Default
   * those that this process may use; the kernel then moves them.
   */
  readonly cpus?: string;
  /** MiB of its memory, all of it shared with devices that it drives. Default 64. */
  readonly memoryMiB?: number;
  /** Packet buffers. Default 8192. */
  readonly bufferCount?: number;
  /** More of testpmd's own options: `--txpkts=1000`. */
  readonly args?: readonly string[];
  /** More of EAL's options: `--log-level=lib.vhost.config:debug`. */
  readonly eal?: readonly string[];
}

const MEMORY_MIB_DEFAULT = 64;
const BUFFER_COUNT_DEFAULT = 8192;

/** `prefix` names the process among those that use the same folder. */
export function testpmdArguments(options: TestpmdOptions, prefix: string): string[] {
  const { ports, cpus = allowedCpus(), forwardMode = 'io', args = [], eal = [] } = options;
  if (ports.length === 0) throw new TypeError('testpmd needs a port');
  const pairs = options.queuePairs ?? Math.min(...ports.map(({ queuePairs = 1 }) => queuePairs));
  return [
    '--no-huge',
    '-m',
    String(options.memoryMiB ?? MEMORY_MIB_DEFAULT),
    '--no-pci',
    '--no-telemetry',
    '--no-shconf',
    `--file-prefix=${prefix}`,
    '--lcores',
    `(0-1)@(${cpus})`,
    ...ports.flatMap((port, index) => ['--vdev', vdev(port, index)]),
    ...eal,
    '--',
    '--interactive',
    '--nb-cores=1',
    '--disable-link-check',
    `--forward-mode=${forwardMode}`,
    `--total-num-mbufs=${options.bufferCount ?? BUFFER_COUNT_DEFAULT}`,
    `--rxq=${pairs}`,
    `--txq=${pairs}`,
    ...args,
  ];
}

function vdev({ kind, path, queuePairs = 1, vdev: more = {} }: TestpmdPort, index: number): string {
  const place = kind === 'net_vhost' ? { iface: path, client: 0 } : { path };
  const words = Object.entries({ ...place, queues: queuePairs, ...more });
  return [`${kind}${index}`, ...words.map(([name, value]) => `${name}=${value}`)].join(',');
}

/** sched_setaffinity(2), as proc(5) shows it. */
function allowedCpus(): string {
  const status = readFileSync('/proc/self/status', 'utf8');
  return /^Cpus_allowed_list:\s*(\S+)/m.exec(status)?.[1] ?? '0';
}
