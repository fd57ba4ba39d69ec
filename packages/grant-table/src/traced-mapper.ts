import type { DomId, GrantHandle, GrantRef } from '@virtlab/abi/brands';
import { GNTST_NAMES, GNTST_okay } from '@virtlab/abi/grant-table';
import type { MemoryRegion } from '@virtlab/guest-memory';
import type { CopyingGrantMapper, GrantMapper } from './contract.ts';
import type { GrantCopyList } from './grant-copy-list.ts';
import type { GrantEvents } from './grant-events.ts';

/** A mapper that tells what is done with it. */
export class TracedMapper implements CopyingGrantMapper {
  readonly #events: GrantEvents;
  readonly #domain: DomId;
  readonly #mapper: CopyingGrantMapper;

  constructor(events: GrantEvents, domain: DomId, mapper: CopyingGrantMapper) {
    this.#events = events;
    this.#domain = domain;
    this.#mapper = mapper;
  }

  get frame(): number {
    return this.#mapper.frame;
  }

  map(domain: DomId, ref: GrantRef, writable: boolean): GrantHandle | number {
    const result = this.#mapper.map(domain, ref, writable);
    if (result < 0) this.#events.refused('map', GNTST_NAMES[0 - result]!);
    else this.#events.mapped(this.#domain, result, domain, ref, writable);
    return result;
  }

  ram(domain: DomId): MemoryRegion | undefined {
    return this.#mapper.ram(domain);
  }

  unmap(handle: GrantHandle): number {
    const status = this.#mapper.unmap(handle);
    if (status === GNTST_okay) this.#events.unmapped(this.#domain, handle);
    else this.#events.refused('unmap', GNTST_NAMES[-status]!);
    return status;
  }

  copy(list: GrantCopyList): number {
    const failedCount = this.#mapper.copy(list);
    this.#events.copied(list.count);
    if (failedCount === 0) return 0;
    for (let index = 0; index < list.count; index++) {
      const status = list.status[index]!;
      if (status !== GNTST_okay) this.#events.refused('copy', GNTST_NAMES[-status]!);
    }
    return failedCount;
  }

  live(): ReturnType<GrantMapper['live']> {
    return this.#mapper.live();
  }
}
