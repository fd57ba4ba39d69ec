import type { GrantRef } from '@virtlab/abi/brands';
import { XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import type { GrantTable } from '@virtlab/grant-table';
import type { PageAllocator } from '@virtlab/guest-memory';

interface HeldPage {
  readonly ref: GrantRef;
  readonly offset: number;
}

interface HeldAllocation {
  readonly offset: number;
  readonly size: number;
}

/**
 * Grants that the backend did not let go of when they were to end, and the allocations whose pages they open: these go
 * back to the page allocator only when no grant opens them any more (Linux defers such entries the same way). Empty unless
 * a backend died or misbehaves.
 */
export class Quarantine {
  readonly #grants: GrantTable;
  readonly #pages: PageAllocator;
  #held: HeldPage[] = [];
  #waiting: HeldAllocation[] = [];

  constructor(grants: GrantTable, pages: PageAllocator) {
    this.#grants = grants;
    this.#pages = pages;
  }

  /** Grants that have not ended. */
  get heldCount(): number {
    return this.#held.length;
  }

  /** A grant of the page at `offset` could not be ended. */
  hold(ref: GrantRef, offset: number): void {
    this.#held.push({ ref, offset });
  }

  /** Gives an allocation back, at once or when the last grant of its pages has ended. */
  free(offset: number, size: number): void {
    const allocation = { offset, size };
    if (this.#held.length > 0 && this.#isHeld(allocation)) this.#waiting.push(allocation);
    else this.#pages.free(offset, size);
  }

  /** Tries again; answers how many grants are still held. */
  retry(): number {
    if (this.#held.length === 0) return 0;
    this.#held = this.#held.filter(({ ref }) => !this.#grants.endAccess(ref));
    const free = this.#waiting.filter((each) => !this.#isHeld(each));
    this.#waiting = this.#waiting.filter((each) => this.#isHeld(each));
    for (const { offset, size } of free) this.#pages.free(offset, size);
    return this.#held.length;
  }

  #isHeld({ offset, size }: HeldAllocation): boolean {
    const end = offset + Math.ceil(size / XEN_PAGE_SIZE) * XEN_PAGE_SIZE;
    return this.#held.some((page) => page.offset >= offset && page.offset < end);
  }
}
