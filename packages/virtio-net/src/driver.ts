import type { FeatureBits } from '@virtlab/abi/brands';
import { VIRTIO_ID_NET, hasFeature } from '@virtlab/abi/virtio';
import { VIRTIO_NET_F_CTRL_VQ } from '@virtlab/abi/virtio-net';
import {
  ALL_RING_FEATURES,
  type DriverLink,
  type DriverTransport,
  TransportError,
  initializeDevice,
  readConfig,
} from '@virtlab/virtio';
import { parseCardProfile, parsePairCount } from './driver-config.ts';
import type { NetDriver } from './driver-contract.ts';
import { type NetDriverOptions, type ResolvedDriverOptions, resolveDriverOptions } from './driver-options.ts';
import { createDriverSides } from './driver-sides.ts';
import { NetError } from './errors.ts';
import { CONFIGURATION_FEATURES, pruneNetFeatures } from './net-features.ts';
import { QUEUE_COUNT, configSizeFor, hasPairs } from './protocol.ts';
import { SessionNetDriver } from './session-net-driver.ts';

/**
 * Brings up the network device behind `link`, which stays the caller's to dispose.
 *
 * Rejects as `initializeDevice`; with `NetError` `EPROTO` when it is no network device or its configuration makes no sense,
 * `ENOSPC` when the receive buffers do not hold a frame, `EINVAL` when it refuses the number of queues that it offered; with
 * `DmaError` when there is no memory for buffers. Nothing stays lent then. Throws `RangeError` for bad options.
 */
export async function createNetDriver(link: DriverLink, options: NetDriverOptions): Promise<NetDriver> {
  const resolved = resolveDriverOptions(options);
  const { deviceType, queueCount } = link.transport;
  if (deviceType !== VIRTIO_ID_NET)
    throw new NetError('EPROTO', `device type ${deviceType} is no network card`);
  if (queueCount < QUEUE_COUNT) throw new NetError('EPROTO', `${queueCount} queues are not ${QUEUE_COUNT}`);
  const card = await preview(link, resolved);
  const session = await initializeDevice(link, {
    aio: resolved.aio,
    wanted: card.wanted,
    queueCount: card.queueCount,
    queueSizeMax: resolved.queueSize,
    timeoutMs: resolved.timeoutMs,
    polling: resolved.polling,
    // A control request has two; all else is one buffer.
    bufferCountMax: card.queueCount % 2 === 0 ? 1 : 2,
  });
  let driver: SessionNetDriver | undefined;
  try {
    const config = await session.readConfig(0, card.hasConfig ? configSizeFor(session.features) : 0);
    const profile = parseCardProfile(config, session.features);
    const sides = createDriverSides(session, profile, card.pairCount, resolved);
    driver = new SessionNetDriver(session, profile, config, sides, resolved);
    await driver.start();
    return driver;
  } catch (error) {
    await (driver === undefined ? session.stop() : driver.close()).catch(() => undefined);
    throw error;
  }
}

interface Preview {
  /** Accepted where offered, dependencies (§5.1.3.1) included. */
  readonly wanted: FeatureBits;
  readonly queueCount: number;
  /** Pairs that the device has. */
  readonly pairCount: number;
  /** Whether there is a configuration to read. */
  readonly hasConfig: boolean;
}

/** §5.1.2: which queues there are depends on what is accepted, so the offer is looked at first. */
async function preview({ transport }: DriverLink, options: ResolvedDriverOptions): Promise<Preview> {
  const { controlElsewhere } = options;
  const offered = await transport.readDeviceFeatures();
  const device = pruneNetFeatures(offered & options.wanted & ~ALL_RING_FEATURES, controlElsewhere);
  const ring = options.wanted & ALL_RING_FEATURES;
  if (controlElsewhere) return await previewPairs(transport, device, ring, options.queuePairs);
  const hasControl = hasFeature(device, VIRTIO_NET_F_CTRL_VQ);
  const pairCount = hasPairs(device) ? await readPairCount(transport, device) : 1;
  const queueCount = QUEUE_COUNT * pairCount + (hasControl ? 1 : 0);
  return { wanted: device | ring, queueCount, pairCount, hasConfig: true };
}

/** Without a control queue to say how many pairs are in use, no others are set up. */
async function previewPairs(
  transport: DriverTransport,
  device: FeatureBits,
  ring: FeatureBits,
  wantedPairs: number,
): Promise<Preview> {
  const told = await ifThereIsAny(readPairCount(transport, device));
  const there = told ?? Math.floor(transport.queueCount / QUEUE_COUNT);
  const pairCount = hasPairs(device) ? Math.min(wantedPairs, there) : 1;
  const hasConfig = told !== undefined;
  const known = hasConfig ? device : device & ~CONFIGURATION_FEATURES;
  return { wanted: known | ring, queueCount: QUEUE_COUNT * pairCount, pairCount, hasConfig };
}

async function readPairCount(transport: DriverTransport, features: FeatureBits): Promise<number> {
  const config = await readConfig(transport, 0, configSizeFor(features));
  return hasPairs(features) ? parsePairCount(config) : 1;
}

/** Undefined where the transport has no configuration. */
async function ifThereIsAny<T>(reading: Promise<T>): Promise<T | undefined> {
  try {
    return await reading;
  } catch (error) {
    if (error instanceof TransportError && error.code === 'ENOTSUP') return undefined;
    throw error;
  }
}
