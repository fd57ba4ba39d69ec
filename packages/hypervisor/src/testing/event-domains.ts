import type { DomId } from '@virtlab/abi/brands';
import {
  type EventChannelHypercalls,
  type EventChannels,
  type EventTarget,
  createEventChannels,
} from '@virtlab/event-channel';
import type { HypervisorConnection } from '../connection.ts';
import { XEN_PAGES, eventTargetOf } from '../domain-memory.ts';
import { eventHypercalls } from '../event-hypercalls.ts';
import type { Hypervisor } from '../hypervisor.ts';
import type { DomainConfig } from '../hypercalls.ts';

const DOMAINS: readonly DomainConfig[] = [
  { name: 'privileged', type: 'pv', ramSize: 1 << 16 },
  { name: 'left', type: 'pv', ramSize: 1 << 16, vcpuCount: 2 },
  { name: 'right', type: 'pv', ramSize: 1 << 16 },
];
const GUEST_PORT_MAX = 1023;
const NO_PROGRAM = { module: 'none', args: null };
const NO_START_INFO = { xenstoreFrame: 0, xenstorePort: 0 as const };

/** A domain of a machine with its event channels; what the conformance suite of the package asks for. */
export interface EventDomain {
  readonly channels: EventChannels;
  readonly hypercalls: EventChannelHypercalls;
  readonly portMax: number;
}

/** Makes and starts the domains, each with all others mapped for events, the first with so many ports; `connected` resolves to the connection of each. */
export async function startEventDomains(
  hypervisor: Hypervisor,
  connected: (domain: DomId) => Promise<HypervisorConnection>,
  wakeSelf: (domain: DomId) => void,
  portMaxOfFirst: number,
): Promise<readonly EventDomain[]> {
  const started: EventDomain[] = [];
  const connectors: ((peer: DomId) => Promise<EventTarget>)[] = [];
  for (const config of DOMAINS) {
    const domain = hypervisor.createDomain({
      ...config,
      portMax: started.length === 0 ? portMaxOfFirst : GUEST_PORT_MAX,
    });
    hypervisor.unpauseDomain(domain, NO_PROGRAM, NO_START_INFO);
    const connection = await connected(domain);
    const targets = new Map<DomId, EventTarget>();
    const connect = async (peer: DomId): Promise<EventTarget> => {
      const foreign = await connection.mapDomain(peer, 'events');
      const target = eventTargetOf(foreign.memory.xen, () => foreign.ring());
      targets.set(peer, target);
      return target;
    };
    connection.onDomainGone((peer) => targets.delete(peer));
    const hypercalls = eventHypercalls(connection);
    const channels: EventChannels = createEventChannels({
      domain,
      own: eventTargetOf(connection.memory.xen, () => wakeSelf(domain)),
      portTable: {
        region: connection.memory.xen,
        offset: XEN_PAGES.portTable,
        portCount: XEN_PAGES.portCount,
      },
      hypercalls,
      peers: { target: (peer) => targets.get(peer), connect },
    });
    const portMax = domain === 0 ? portMaxOfFirst : GUEST_PORT_MAX;
    started.push({ channels, hypercalls, portMax });
    connectors.push(connect);
  }
  for (const [index, connect] of connectors.entries())
    for (const [other, { channels }] of started.entries())
      if (other !== index) await connect(channels.domain);
  return started;
}
