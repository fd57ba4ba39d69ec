import type { VhostUserProtocolFeature } from '@virtlab/abi/vhost-user';
import { VHOST_USER_PROTOCOL_F } from '@virtlab/abi/vhost-user';
import type { DeviceHost } from '@virtlab/virtio';
import type { ProtocolFault } from './fault.ts';
import type { DoorbellAioContext } from './frontend-options.ts';
import type { XenMemory } from './xen-memory.ts';

export interface ServeVhostUserOptions {
  /** The device; attached for as long as the connection lasts, then reset and free for the next. */
  readonly host: DeviceHost;
  /** The loop of the device; kicks come in it. */
  readonly aio: DoorbellAioContext;
  /** Protocol features that are not offered although they are there. Default none. */
  readonly withheldProtocolFeatures?: readonly VhostUserProtocolFeature[];
  /**
   * For a device to finish its requests when a ring is stopped; the rest is given up, and done again by whoever goes on and knows of it. Default
   * 5000: what holds buffers until something comes from outside never finishes them.
   */
  readonly drainTimeoutMs?: number;
  /** How often rings are looked at whose driver does not kick. Default 1. */
  readonly pollIntervalMs?: number;
  /** What GET_QUEUE_NUM says. Default: the queues of the device, for a network card its pairs of them. */
  readonly queueNum?: number;
  /**
   * Take memory that its owner can take back: what is not sealed against shrinking, as that of DPDK without huge pages, and huge
   * pages, sealed or not. Who touches what is gone is ended by SIGBUS, and that is this process. Default false.
   */
  readonly allowShrink?: boolean;
  /**
   * Bytes of memory that the other side may have mapped at a time. A table with more is refused before anything is mapped: each
   * 4 GiB take some milliseconds, in which nothing else runs, and describing them costs nothing. Default 1 TiB.
   */
  readonly memorySizeMax?: number;
  /** NET_SET_MTU; false refuses. Without it MTU is not offered. */
  setMtu?(mtu: number): boolean;
  /**
   * Where this process is a domain: memory of the domains that the other side speaks for, by XEN_MMAP, which is not offered
   * without it.
   */
  readonly xen?: XenMemory;
  /** Each request that is in order, before it is done. */
  onRequest?(name: string): void;
  /**
   * Each request that was not done and whose acknowledgement says so: the message and what was wrong, a sentence that the other
   * side never sees. It may bring about as many as it likes.
   */
  onRefusal?(reason: string): void;
}

/** How a connection ended: `fault` is what the other side did wrong, `error` what went wrong here. */
export interface VhostUserBackendEnd {
  readonly fault: ProtocolFault | undefined;
  readonly error?: unknown;
}

export const DRAIN_TIMEOUT_MS_DEFAULT = 5000;
export const POLL_INTERVAL_MS_DEFAULT = 1;

const ALWAYS: readonly VhostUserProtocolFeature[] = [
  'MQ',
  'LOG_SHMFD',
  'REPLY_ACK',
  'BACKEND_REQ',
  'CONFIG',
  'INFLIGHT_SHMFD',
  'RESET_DEVICE',
  'INBAND_NOTIFICATIONS',
  'CONFIGURE_MEM_SLOTS',
  'STATUS',
];

export function protocolFeatureBit(name: VhostUserProtocolFeature): bigint {
  return 1n << BigInt(VHOST_USER_PROTOCOL_F[name]);
}

/** What GET_PROTOCOL_FEATURES says. */
export function offeredProtocolFeatures(options: ServeVhostUserOptions): bigint {
  const hasConfig = options.host.configSize > 0;
  const optional: VhostUserProtocolFeature[] = [];
  if (options.setMtu !== undefined) optional.push('MTU');
  if (options.xen !== undefined) optional.push('XEN_MMAP');
  const withheld = options.withheldProtocolFeatures ?? [];
  const offered = [...ALWAYS, ...optional].filter(
    (name) => !withheld.includes(name) && (name !== 'CONFIG' || hasConfig),
  );
  return offered.reduce((bits, name) => bits | protocolFeatureBit(name), 0n);
}
