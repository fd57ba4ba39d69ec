import type { DomId } from '@virtlab/abi/brands';
import { EVTCHN_2L_NR_CHANNELS } from '@virtlab/abi/event-channel';
import { GNTTAB_NR_RESERVED_ENTRIES } from '@virtlab/abi/grant-table';
import { XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import type { AioContext } from '@virtlab/aio';
import {
  type EventChannels,
  type EventTarget,
  PORT_TABLE_ENTRY_SIZE,
  type PortTableView,
  createEventChannels,
} from '@virtlab/event-channel';
import { inProcessHypercalls } from '@virtlab/event-channel/hypervisor';
import {
  type GrantMapper,
  type GrantTable,
  type GrantTableView,
  createGrantMapper,
  createGrantTable,
} from '@virtlab/grant-table';
import { type MemoryRegion, PageAllocator, memoryRegion } from '@virtlab/guest-memory';
import type { Xenstore } from '@virtlab/xenstore';
import type { XenRig } from './xen-rig.ts';

const PORT_TABLE_OFFSET = XEN_PAGE_SIZE;
const GRANT_TABLE_OFFSET = PORT_TABLE_OFFSET + EVTCHN_2L_NR_CHANNELS * PORT_TABLE_ENTRY_SIZE;
const GRANT_FRAME_COUNT = 4;

/** One domain of a rig: everything a transport asks of the domain that it runs in. */
export class RigDomain {
  readonly id: DomId;
  readonly aio: AioContext;
  readonly memory: MemoryRegion;
  readonly pages: PageAllocator;
  readonly eventTarget: EventTarget;
  readonly portTable: PortTableView;
  readonly events: EventChannels;
  readonly grantView: GrantTableView;
  readonly grants: GrantTable;
  readonly grantMapper: GrantMapper;
  /** The domain's own connection, not privileged unless it is domain 0. */
  readonly store: Xenstore;
  /** Domains whose memory this one has mapped; their grants are out of reach before. */
  readonly #mapped = new Set<DomId>();
  readonly #rig: XenRig;

  constructor(rig: XenRig, id: DomId, ramPages: number) {
    const xen = memoryRegion(new ArrayBuffer(GRANT_TABLE_OFFSET + GRANT_FRAME_COUNT * XEN_PAGE_SIZE));
    this.#rig = rig;
    this.id = id;
    this.aio = rig.simulation.createContext(`domain ${id}`);
    this.memory = memoryRegion(new ArrayBuffer(ramPages * XEN_PAGE_SIZE));
    this.pages = new PageAllocator(0, this.memory.size);
    const doorbell = this.aio.createEventNotifier();
    this.aio.addHandler(doorbell, {
      onReady: () => {
        doorbell.testAndClear();
        this.events.dispatch();
      },
    });
    this.eventTarget = { region: xen, sharedInfoOffset: 0, wake: () => doorbell.set() };
    this.portTable = { region: xen, offset: PORT_TABLE_OFFSET, portCount: EVTCHN_2L_NR_CHANNELS };
    this.events = createEventChannels({
      domain: id,
      own: this.eventTarget,
      portTable: this.portTable,
      hypercalls: inProcessHypercalls(rig.ports, id),
      peers: {
        target: (peer) => rig.domain(peer)?.eventTarget,
        connect: async (peer) => rig.domain(peer)!.eventTarget,
      },
    });
    this.grantView = {
      table: xen,
      tableOffset: GRANT_TABLE_OFFSET,
      frameCount: GRANT_FRAME_COUNT,
      ram: this.memory,
    };
    const reservedCount = GNTTAB_NR_RESERVED_ENTRIES;
    this.grants = createGrantTable({ domain: id, view: this.grantView, reservedCount });
    this.grantMapper = createGrantMapper({
      domain: id,
      mapCountMax: 4096,
      peers: { table: (peer) => (this.#mapped.has(peer) ? rig.domain(peer)?.grantView : undefined) },
    });
    this.store = rig.xenstore.connect(id);
  }

  /** What a domain does before it maps the first grant of another. Rejects when there is no such domain. */
  readonly mapDomain = async (peer: DomId): Promise<void> => {
    if (this.#rig.domain(peer) === undefined) throw new Error(`There is no domain ${peer}`);
    this.#mapped.add(peer);
  };

  /** What is still held, the doorbell of the domain itself excepted. */
  leaks(): readonly string[] {
    const name = `domain ${this.id}`;
    return [
      ...this.events.openPorts().map((port) => `${name}: port ${port}`),
      ...this.grants.live().map(({ ref, frame }) => `${name}: grant ${ref} of frame ${frame}`),
      ...this.grantMapper.live().map(({ ref, domain }) => `${name}: maps grant ${ref} of domain ${domain}`),
      ...(this.pages.usedPages > 0 ? [`${name}: ${this.pages.usedPages} pages`] : []),
      ...this.aio
        .leaks()
        .filter((each) => each !== '1 handlers')
        .map((each) => `${name}: ${each}`),
    ];
  }
}
