import type { VhostUserProtocolFeature } from '@virtlab/abi/vhost-user';
import { VHOST_USER_VRING_IDX_MASK } from '@virtlab/abi/vhost-user';
import { VIRTIO_ID_NET } from '@virtlab/abi/virtio';
import { VIRTQUEUE_SIZE_MAX } from '@virtlab/abi/virtio-ring';
import type { AioContext, EventNotifier } from '@virtlab/aio';
import { PAGE_SIZE } from '@virtlab/guest-memory';
import type { EventFd } from '@virtlab/linux';

/** A loop that event file descriptors can wake; `NodeAioContext` is one. */
export interface DoorbellAioContext extends AioContext {
  createEventFdNotifier(eventFd: EventFd): EventNotifier;
}

export interface ConnectVhostUserOptions {
  /** Where the device's process listens; or `fd`, a connected socket, which the link then owns. */
  readonly path?: string;
  readonly fd?: number;
  /** The loop that calls run in and whose clock time limits follow. */
  readonly aio: DoorbellAioContext;
  /** VIRTIO §5 device id: the protocol does not tell. */
  readonly deviceType: number;
  /**
   * Queues of the device, at most 256. Default: what GET_QUEUE_NUM says, 1 without MQ, and 2 for a network card, whose devices do
   * not agree on whether they count queues or pairs.
   */
  readonly queueCount?: number;
  /** Entries of each queue at most, or of each queue: the protocol does not tell. Powers of two. Default 256. */
  readonly queueSizeMax?: number | readonly number[];
  /** Bytes of memory for rings and buffers, rounded up to pages. Default 64 MiB. */
  readonly memorySize?: number;
  /** Accepted where offered. Default `VHOST_USER_FRONTEND_FEATURES`, which is also the most. */
  readonly protocolFeatures?: readonly VhostUserProtocolFeature[];
  /** Configuration space of a device that does not have one of its own to offer (no CONFIG). Default none. */
  readonly config?: Uint8Array;
  /** For each answer of the device. Default 5000. */
  readonly timeoutMs?: number;
  /**
   * Go on with another process when the device's process ends, if it listens at `path` within this time. Requests in flight are
   * not lost; some may be done twice. Those of a packed ring need a device with INFLIGHT_SHMFD: without it, the device is gone
   * when there are any. Default: the device is gone.
   */
  readonly reconnect?: { readonly withinMs: number; readonly everyMs?: number };
}

/** Protocol features that the driver role makes use of. */
export const VHOST_USER_FRONTEND_FEATURES: readonly VhostUserProtocolFeature[] = [
  'MQ',
  'REPLY_ACK',
  'BACKEND_REQ',
  'CONFIG',
  'INFLIGHT_SHMFD',
  'RESET_DEVICE',
  'CONFIGURE_MEM_SLOTS',
  'STATUS',
];

export const QUEUE_COUNT_MAX: number = VHOST_USER_VRING_IDX_MASK + 1;
const QUEUE_SIZE_DEFAULT = 256;
const MEMORY_SIZE_DEFAULT = 64 << 20;
const TIMEOUT_MS_DEFAULT = 5000;
const RECONNECT_EVERY_MS_DEFAULT = 50;
const NET_QUEUE_COUNT = 2;

export interface ResolvedFrontendOptions {
  readonly path: string | undefined;
  readonly aio: DoorbellAioContext;
  readonly deviceType: number;
  /** What the caller says, or what a device of this type has if it does not say. */
  readonly queueCount: number | undefined;
  readonly queueCountDefault: number;
  readonly memorySize: number;
  readonly protocolFeatures: ReadonlySet<VhostUserProtocolFeature>;
  readonly config: Uint8Array;
  readonly timeoutMs: number;
  readonly reconnect: { readonly withinMs: number; readonly everyMs: number } | undefined;
  queueSizeMax(queue: number): number;
}

/** Throws `TypeError` or `RangeError` with what cannot be meant. */
export function resolveFrontendOptions(options: ConnectVhostUserOptions): ResolvedFrontendOptions {
  const { path, fd, deviceType, reconnect, memorySize = MEMORY_SIZE_DEFAULT } = options;
  if ((path === undefined) === (fd === undefined)) throw new TypeError('Give either a path or a descriptor');
  if (reconnect !== undefined && path === undefined) throw new TypeError('Reconnecting needs a path');
  const { queueCount, queueSizeMax = QUEUE_SIZE_DEFAULT } = options;
  if (queueCount !== undefined && !isWithin(queueCount, QUEUE_COUNT_MAX)) {
    throw new RangeError(`queueCount ${queueCount} is not in 1..${QUEUE_COUNT_MAX}`);
  }
  for (const size of [queueSizeMax].flat()) {
    if (isWithin(size, VIRTQUEUE_SIZE_MAX) && (size & (size - 1)) === 0) continue;
    throw new RangeError(`queueSizeMax ${size} is not a power of two of at most ${VIRTQUEUE_SIZE_MAX}`);
  }
  const known = new Set(VHOST_USER_FRONTEND_FEATURES);
  const features = options.protocolFeatures ?? VHOST_USER_FRONTEND_FEATURES;
  const unknown = features.find((feature) => !known.has(feature));
  if (unknown !== undefined) throw new RangeError(`Protocol feature ${unknown} is not supported`);
  return {
    path,
    aio: options.aio,
    deviceType,
    queueCount,
    queueCountDefault: deviceType === VIRTIO_ID_NET ? NET_QUEUE_COUNT : 1,
    memorySize: Math.ceil(memorySize / PAGE_SIZE) * PAGE_SIZE,
    protocolFeatures: new Set(features),
    config: options.config ?? new Uint8Array(0),
    timeoutMs: options.timeoutMs ?? TIMEOUT_MS_DEFAULT,
    reconnect: reconnect === undefined ? undefined : { everyMs: RECONNECT_EVERY_MS_DEFAULT, ...reconnect },
    queueSizeMax: (queue) => (typeof queueSizeMax === 'number' ? queueSizeMax : (queueSizeMax[queue] ?? 0)),
  };
}

function isWithin(value: number, max: number): boolean {
  return Number.isInteger(value) && value > 0 && value <= max;
}
