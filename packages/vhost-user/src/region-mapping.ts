/** How a region of a memory table becomes memory of this process. */
import { MEMORY_REGION_SIZE_MAX, type MemoryRegion, memoryRegion } from '@virtlab/guest-memory';
import { LinuxError, mapShared, memoryPageSize, type SharedMapping } from '@virtlab/linux';
import { type Outcome, bad, good, hex } from './fault.ts';
import type { RegionDescription } from './payload-memory.ts';

/** Mapped memory of one region, in order and without gaps: more than one piece where it is larger than a view may be. */
export interface MappedRegion {
  readonly pieces: readonly MemoryRegion[];
  /**
   * Ends the sharing of each piece that it can, and throws for the others. Views that somebody still has must stay harmless: read
   * anything, write nowhere.
   */
  revoke(): void;
}

/** What `mapShared` says of it, and what is said here. */
const TAKEN_BACK = [
  ['F_SEAL_SHRINK', 'the memory is not sealed (no F_SEAL_SHRINK)'],
  ['huge pages', 'the memory is huge pages'],
] as const;
const INSTEAD = "QEMU's memory-backend-memfd without hugetlb is taken";
/** Typed arrays over a region need whole words. */
const WORD_SIZE = 8n;

/**
 * Maps the descriptor, which stays the caller's; memory that its owner can take back only with `allowShrink`. Never throws for
 * what the peer sent.
 */
export function mapMemory(
  region: RegionDescription,
  fd: number,
  allowShrink: boolean = false,
): Outcome<MappedRegion> {
  const { size, mmapOffset } = region;
  const what = `region of ${hex(size)} bytes at guest ${hex(region.guestAddress)}`;
  if (size % WORD_SIZE !== 0n || mmapOffset % WORD_SIZE !== 0n) {
    return bad('BAD_VALUE', `${what}, offset ${hex(mmapOffset)}: not whole words`);
  }
  if (mmapOffset + size > BigInt(Number.MAX_SAFE_INTEGER)) {
    return bad('BAD_VALUE', `${what} ends beyond any file`);
  }
  const mapped = mapPieces(fd, Number(mmapOffset), Number(size), allowShrink);
  return mapped.ok ? mapped : bad(mapped.fault.code, `${what}: ${mapped.fault.message}`);
}

/** `[offset, offset + size)` of a descriptor, both multiples of 8. */
export function mapPieces(
  fd: number,
  offset: number,
  size: number,
  allowShrink: boolean = false,
): Outcome<MappedRegion> {
  const mappings: SharedMapping[] = [];
  const revoke = (): void => disposeAll(mappings);
  try {
    const pageSize = memoryPageSize(fd);
    const pieces: MemoryRegion[] = [];
    for (let at = offset; at < offset + size;) {
      // A mapping begins at a page, what is described need not.
      const lead = at % pageSize;
      const part = Math.min(offset + size - at, MEMORY_REGION_SIZE_MAX - lead);
      const mapping = mapShared(fd, lead + part, { offset: at - lead, allowShrink });
      mappings.push(mapping);
      pieces.push(memoryRegion(mapping.buffer, lead, part));
      at += part;
    }
    return good({ pieces, revoke });
  } catch (error) {
    revoke();
    if (error instanceof LinuxError || error instanceof RangeError) return bad('REFUSED', reasonOf(error));
    throw error;
  }
}

/** Each of them, also behind one that fails; throws what then was wrong. */
export function disposeAll(all: Iterable<Disposable>): void {
  using stack = new DisposableStack();
  for (const each of all) stack.use(each);
}

/** Memory that its owner could take back is the commonest of all: who set the other side up has to know what to do about it. */
function reasonOf({ message }: LinuxError | RangeError): string {
  const what = TAKEN_BACK.find(([word]) => message.includes(word))?.[1];
  return what === undefined
    ? message
    : `${what}: its owner could take it back under this process; ${INSTEAD}`;
}
