import { type EvtchnPort, domId } from '@virtlab/abi/brands';
import { EVTCHN_FIFO_EVENT_WORDS_PER_PAGE } from '@virtlab/abi/event-channel';
import { XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import {
  type EventAbi,
  type EventChannels,
  type EventTarget,
  PORT_TABLE_ENTRY_SIZE,
  type PortTableView,
  createEventChannels,
  deliveryArea,
  deliveryAreaSize,
} from '@virtlab/event-channel';
import { createPortTables, inProcessHypercalls } from '@virtlab/event-channel/hypervisor';
import { memoryRegion } from '@virtlab/guest-memory';

/** Two domains in one thread, the first of which sends and the second of which receives. */
export interface EventPair {
  /** Sends on the first `portCount` ports, and dispatches once; how many handlers ran. */
  round(portCount: number): number;
  /** Doorbells of the receiver so far. */
  wakeUps(): number;
}

const PORTS_MAX = 2 * EVTCHN_FIFO_EVENT_WORDS_PER_PAGE;
const TABLE_OFFSET = XEN_PAGE_SIZE;
const DELIVERY_OFFSET = TABLE_OFFSET + PORTS_MAX * PORT_TABLE_ENTRY_SIZE;
const FIRST_EVENT_FRAME = Math.ceil((DELIVERY_OFFSET + deliveryAreaSize(PORTS_MAX, 1)) / XEN_PAGE_SIZE);
/** A control block, and the event array. */
const EVENT_FRAME_COUNT = 1 + PORTS_MAX / EVTCHN_FIFO_EVENT_WORDS_PER_PAGE;

interface Pages {
  readonly target: EventTarget;
  readonly portTable: PortTableView;
}

export async function createEventPair(abi: EventAbi, portCount: number): Promise<EventPair> {
  let wakeUps = 0;
  let delivered = 0;
  const pages = [createPages(() => {}), createPages(() => (wakeUps += 1))];
  const tables = createPortTables({
    domainExists: (domain) => domain in pages,
    targetOf: (domain) => pages[domain]?.target,
    isPrivileged: (domain) => domain === 0,
    portCountMax: () => PORTS_MAX - 1,
  });
  const peers = {
    target: (peer: number) => pages[peer]?.target,
    connect: () => Promise.reject(new Error('There is no such domain')),
  };
  const [sender, receiver] = pages.map(({ target, portTable }, id): EventChannels => {
    const domain = domId(id);
    tables.addDomain(domain, portTable);
    const hypercalls = inProcessHypercalls(tables, domain);
    return createEventChannels({ domain, own: target, portTable, hypercalls, peers });
  }) as [EventChannels, EventChannels];
  if (abi === 'fifo') await receiver.useFifo();
  const ports: EvtchnPort[] = [];
  for (let index = 0; index < portCount; index += 1) {
    const offered = await receiver.allocUnbound(sender.domain);
    receiver.onEvent(offered, () => (delivered += 1));
    ports.push(await sender.bindInterdomain(receiver.domain, offered));
  }
  receiver.dispatch();
  return {
    round: (count) => {
      delivered = 0;
      for (let index = 0; index < count; index += 1) sender.send(ports[index]!);
      receiver.dispatch();
      return delivered;
    },
    wakeUps: () => wakeUps,
  };
}

function createPages(wake: () => void): Pages {
  const size = (FIRST_EVENT_FRAME + EVENT_FRAME_COUNT) * XEN_PAGE_SIZE;
  const region = memoryRegion(new SharedArrayBuffer(size));
  return {
    target: {
      region,
      sharedInfoOffset: 0,
      wake,
      delivery: deliveryArea(DELIVERY_OFFSET, PORTS_MAX, 1),
      eventFrames: { firstFrame: FIRST_EVENT_FRAME, frameCount: EVENT_FRAME_COUNT },
    },
    portTable: { region, offset: TABLE_OFFSET, portCount: PORTS_MAX },
  };
}
