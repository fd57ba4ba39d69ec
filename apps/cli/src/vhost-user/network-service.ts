import type { NodeAioContext } from '@virtlab/aio/node';
import {
  type LearningSwitch,
  NetError,
  createLearningSwitch,
  createNetDevice,
  joinPorts,
} from '@virtlab/virtio-net';
import { type PcapFile, createPcapFile, createTapPort } from '@virtlab/virtio-net/node';
import { StartError } from '../start-error.ts';
import { type NetPlan, type Place, placeName } from './daemon-plan.ts';
import type { Report } from './report.ts';
import { ServedDevice } from './served-device.ts';
import { EndError, type Service } from './service.ts';
import { StreamJoin } from './stream-join.ts';

interface Surroundings {
  readonly places: readonly Place[];
  readonly aio: NodeAioContext;
  readonly report: (report: Report) => void;
  readonly onLast: () => void;
}

/** A switch with a card at each place, and whatever else joins it. Rejects with `StartError` for what cannot be opened. */
export async function serveNetwork(plan: NetPlan, surroundings: Surroundings): Promise<Service> {
  const ends: (() => void | Promise<void>)[] = [];
  const close = async (): Promise<void> => {
    for (const end of ends.splice(0).toReversed()) await end();
  };
  try {
    const capture = openCapture(plan, surroundings.report);
    if (capture !== undefined) ends.push(() => endCapture(plan, capture));
    const network = createLearningSwitch(capture === undefined ? {} : { capture });
    if (plan.tap !== undefined) ends.push(joinTap(network, plan.tap, surroundings));
    for (const path of plan.streams) {
      const join = new StreamJoin({ path, network, aio: surroundings.aio, report: surroundings.report });
      ends.push(() => join[Symbol.dispose]());
    }
    for (const [index, place] of surroundings.places.entries()) {
      const card = serveCard(plan, network, place, plan.macs[index]!, surroundings);
      ends.push(() => card.close());
    }
  } catch (error) {
    await close();
    throw error;
  }
  return { close };
}

function openCapture({ pcap }: NetPlan, report: Surroundings['report']): PcapFile | undefined {
  if (pcap === undefined) return undefined;
  const onFailure = ({ message }: Error): void =>
    report({ event: 'warning', message: `--pcap ${pcap}: ${message}; nothing more is captured` });
  try {
    return createPcapFile(pcap, { onFailure });
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const why = code === 'ENXIO' ? 'a pipe that nobody reads, or no file (ENXIO)' : message;
    throw new StartError('usage', `--pcap ${pcap}: ${why}`);
  }
}

async function endCapture({ pcap }: NetPlan, capture: PcapFile): Promise<void> {
  try {
    await capture.close();
  } catch (error) {
    if (!(error instanceof NetError)) throw error;
    throw new EndError(`--pcap ${pcap}: ${error.message}`, { cause: error });
  }
}

function joinTap(network: LearningSwitch, name: string, { aio, report }: Surroundings): () => void {
  const port = `tap ${name}`;
  try {
    const tap = createTapPort({ aio, name });
    const cable = joinPorts(network.addPort(port), tap);
    const leave = (): void => {
      if (!network.removePort(port)) return;
      cable[Symbol.dispose]();
      tap[Symbol.dispose]();
    };
    tap.onEnd(() => {
      leave();
      report({ event: 'left', port, reason: 'the interface was deleted' });
    });
    return leave;
  } catch (error) {
    const kind = error instanceof RangeError ? 'usage' : 'environment';
    throw new StartError(kind, `--tap ${name}: ${(error as Error).message}`);
  }
}

function serveCard(
  plan: NetPlan,
  network: LearningSwitch,
  place: Place,
  mac: Uint8Array,
  { aio, report, onLast }: Surroundings,
): ServedDevice {
  const { mtu, queuePairs, queueSize, allowShrink } = plan;
  const port = network.addPort(placeName(place));
  // QEMU has the card's configuration and its control queue, and asks for data queues only.
  const device = createNetDevice({ mac, port, mtu, queuePairs, queueSize, controlElsewhere: true });
  // For each pair QEMU 7.2 adds all regions again (hw/virtio/vhost-user.c: ADD_MEM_REG is no per-device request there).
  const withheld = queuePairs > 1 ? (['CONFIGURE_MEM_SLOTS'] as const) : [];
  return new ServedDevice({
    device,
    place,
    aio,
    report,
    onLast,
    withheld,
    allowShrink,
    setMtu: (wanted) => wanted <= mtu,
  });
}
