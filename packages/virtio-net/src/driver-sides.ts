import { ETHERNET_HEADER_SIZE } from '@virtlab/abi/ethernet';
import { hasFeature } from '@virtlab/abi/virtio';
import {
  VIRTIO_NET_F_CTRL_VQ,
  virtioNetControlQueue,
  virtioNetReceiveQueue,
  virtioNetTransmitQueue,
} from '@virtlab/abi/virtio-net';
import type { DriverSession } from '@virtlab/virtio';
import { ControlRequests } from './control-requests.ts';
import type { CardProfile } from './driver-config.ts';
import type { StuckQueue } from './driver-contract.ts';
import {
  type BufferPlan,
  type ResolvedDriverOptions,
  planReceive,
  planTransmit,
  planUnfinished,
} from './driver-options.ts';
import { ReceiveSide } from './driver-receive.ts';
import { TransmitSide } from './driver-transmit.ts';
import { acceptedByDevice, acceptedByDriver } from './frame-offload.ts';
import { netHeaderSize } from './protocol.ts';

/** The queues of a driver, with their buffers. */
export interface DriverSides {
  readonly receive: readonly ReceiveSide[];
  readonly transmit: readonly TransmitSide[];
  readonly control: ControlRequests | undefined;
  /** What the device takes unfinished. */
  readonly accepts: number;
  /** Where reports of stuck queues go. */
  readonly stuck: { handler: ((stuck: StuckQueue) => void) | undefined };
}

/**
 * Makes the sides of the pairs in use, and the control queue behind all pairs that the device has. On failure the session
 * must be stopped, and memory that the device has seen is freed by that.
 *
 * @throws DmaError or NetError `ENOSPC`; what was allocated and not shown to the device is free again
 */
export function createDriverSides(
  session: DriverSession,
  { mtu }: CardProfile,
  devicePairs: number,
  options: ResolvedDriverOptions,
): DriverSides {
  const { features, queues } = session;
  const accepts = acceptedByDevice(features);
  const accept = acceptedByDriver(features);
  const headerSize = netHeaderSize(features);
  const pairs = Array.from({ length: Math.min(options.queuePairs, devicePairs) }, (_, pair) => pair);
  const stuck: DriverSides['stuck'] = { handler: undefined };
  const undo: (() => void)[] = [];
  try {
    const plans = pairs.map((pair): BufferPlan => {
      const { size } = queues[virtioNetReceiveQueue(pair)]!;
      return planReceive(mtu, features, size, options, accept, headerSize);
    });
    // First those whose buffers no device has seen: they can be taken back without a reset.
    const transmit = pairs.map((pair) => {
      const index = virtioNetTransmitQueue(pair);
      const { size } = queues[index]!;
      const side = new TransmitSide(session, index, {
        plan: planTransmit(mtu, size, headerSize),
        unfinished: planUnfinished(accepts, size, headerSize),
        frameSizeMax: mtu + ETHERNET_HEADER_SIZE,
        headerSize,
        aio: options.aio,
        timeoutMs: options.txTimeoutMs,
        onStuck: (queue, inFlightCount, snapshot) => stuck.handler?.({ queue, inFlightCount, snapshot }),
      });
      undo.push(() => side.release());
      return side;
    });
    const control = createControl(session, devicePairs, options, undo);
    const receive = pairs.map((pair, index) => {
      const settings = { plan: plans[index]!, mtu, headerSize, accept };
      const side = new ReceiveSide(session, virtioNetReceiveQueue(pair), settings);
      undo.push(() => void session.stop().then(() => side.release()));
      return side;
    });
    return { receive, transmit, control, accepts, stuck };
  } catch (error) {
    for (const each of undo) each();
    throw error;
  }
}

function createControl(
  session: DriverSession,
  devicePairs: number,
  { aio, timeoutMs }: ResolvedDriverOptions,
  undo: (() => void)[],
): ControlRequests | undefined {
  if (!hasFeature(session.features, VIRTIO_NET_F_CTRL_VQ)) return undefined;
  const control = new ControlRequests(session, virtioNetControlQueue(devicePairs), aio, timeoutMs);
  undo.push(() => control.release());
  return control;
}
