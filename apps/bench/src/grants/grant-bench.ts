import { type DomId, type GrantHandle, type GrantRef, domId } from '@virtlab/abi/brands';
import { GNTTAB_NR_RESERVED_ENTRIES } from '@virtlab/abi/grant-table';
import { XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import {
  type CopyingGrantMapper,
  GrantCopyList,
  GrantTableControl,
  type GrantTableView,
  PersistentGrants,
  type VersionedGrantTable,
  createGrantMapper,
  createGrantTable,
  defaultGrantLimits,
  placeGrantControl,
} from '@virtlab/grant-table';
import { type MemoryRegion, memoryRegion } from '@virtlab/guest-memory';

/** Pages that a round goes over: as many as a ring has requests. */
export const PAGE_COUNT = 64;

const TABLE_FRAMES = 4;
const MAP_COUNT_MAX = 4096;

/** A frontend that grants pages, and a backend in the same thread that uses them. A round is `PAGE_COUNT` pages. */
export class GrantBench {
  readonly granter: DomId = domId(1);
  readonly backend: DomId = domId(0);
  readonly table: VersionedGrantTable;
  readonly mapper: CopyingGrantMapper;
  readonly persistent: PersistentGrants;
  readonly #from: MemoryRegion;
  readonly #own: MemoryRegion;
  /** Granted for good, for what is not about granting. */
  readonly #refs: readonly GrantRef[];
  readonly #copies = new GrantCopyList(PAGE_COUNT);

  constructor(version: 1 | 2) {
    this.#from = memoryRegion(new SharedArrayBuffer(PAGE_COUNT * XEN_PAGE_SIZE));
    this.#own = memoryRegion(new SharedArrayBuffer(PAGE_COUNT * XEN_PAGE_SIZE));
    const view = tableOf(this.granter, this.#from, version);
    this.table = createGrantTable({
      domain: this.granter,
      view,
      reservedCount: GNTTAB_NR_RESERVED_ENTRIES,
    });
    this.mapper = createGrantMapper({
      domain: this.backend,
      peers: { table: (domain) => (domain === this.granter ? view : undefined) },
      mapCountMax: MAP_COUNT_MAX,
      ram: this.#own,
    });
    const { mapper, granter: domain } = this;
    this.persistent = new PersistentGrants({ mapper, domain, now: () => performance.now() });
    this.#refs = Array.from({ length: PAGE_COUNT }, (_, frame) => this.#grant(frame));
  }

  /** What a frontend does for a page that it lends and takes back. */
  grantAndEnd(): void {
    for (let page = 0; page < PAGE_COUNT; page += 1) {
      if (!this.table.endAccess(this.#grant(page))) throw new Error('A grant did not end');
    }
  }

  /** What a backend does for a page that it uses in place. */
  mapAndUnmap(): void {
    const { mapper, granter } = this;
    for (let page = 0; page < PAGE_COUNT; page += 1) {
      const handle = mapper.map(granter, this.#refs[page]!, true);
      if (handle < 0 || mapper.frame !== page) throw new Error(`A page was not mapped (${handle})`);
      mapper.unmap(handle as GrantHandle);
    }
  }

  /** Both. */
  lend(): void {
    const { mapper, granter, table } = this;
    for (let page = 0; page < PAGE_COUNT; page += 1) {
      const ref = this.#grant(page);
      mapper.unmap(mapper.map(granter, ref, true) as GrantHandle);
      if (!table.endAccess(ref)) throw new Error('A grant did not end');
    }
  }

  /** A page that stays mapped from one request to the next. */
  usePersistent(): void {
    const { persistent } = this;
    for (let page = 0; page < PAGE_COUNT; page += 1) {
      const slot = persistent.acquire(this.#refs[page]!, true);
      if (slot < 0 || persistent.frameOf(slot) !== page) throw new Error('A page was not mapped');
      persistent.release(slot);
    }
  }

  /** `GNTTABOP_copy` of whole pages, in one list. */
  copy(): void {
    const list = this.#copies;
    list.clear();
    for (let page = 0; page < PAGE_COUNT; page += 1)
      list.pushIn(this.granter, this.#refs[page]!, 0, page, 0, XEN_PAGE_SIZE);
    if (this.mapper.copy(list) !== 0) throw new Error('A copy failed');
  }

  /** The same copies between views of memory that nobody guards. */
  copyPlainly(): void {
    for (let page = 0; page < PAGE_COUNT; page += 1) {
      const at = page * XEN_PAGE_SIZE;
      this.#own.u8.set(this.#from.u8.subarray(at, at + XEN_PAGE_SIZE), at);
    }
  }

  #grant(frame: number): GrantRef {
    const ref = this.table.grantAccess(this.backend, frame, false);
    if (ref < 0) throw new Error('The table is full');
    return ref as GrantRef;
  }
}

function tableOf(granter: DomId, ram: MemoryRegion, version: 1 | 2): GrantTableView {
  const { places, size } = placeGrantControl(TABLE_FRAMES * XEN_PAGE_SIZE, TABLE_FRAMES);
  const view: GrantTableView = {
    table: memoryRegion(new SharedArrayBuffer(places.words + size)),
    tableOffset: 0,
    frameCount: TABLE_FRAMES,
    ram,
    control: places,
  };
  const control = new GrantTableControl(view, defaultGrantLimits(TABLE_FRAMES));
  const refusal = control.setVersion(version);
  if (refusal !== undefined)
    throw new Error(`Domain ${granter} gets no table of version ${version}: ${refusal}`);
  return view;
}
