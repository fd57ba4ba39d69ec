import type { DomId } from '@virtlab/abi/brands';
import type { AioContext } from '@virtlab/aio';
import type { MemoryRegion } from '@virtlab/guest-memory';
import type { DomainMemory } from './domain-memory.ts';
import type { DomainProgram, HypercallOp, HypercallResult, Hypercalls, MapAccess, StartInfo } from './hypercalls.ts';

/** Another domain's pages, mapped here, and its doorbell. */
export interface ForeignDomain {
  readonly domain: DomId;
  readonly memory: DomainMemory;
  /** Wakes the domain unless it is awake. */
  ring(): void;
}

/** How the code of one domain reaches its hypervisor. The same in one process and across processes. */
export interface HypervisorConnection {
  readonly domain: DomId;
  readonly memory: DomainMemory & { readonly ram: MemoryRegion };
  readonly program: DomainProgram;
  readonly startInfo: StartInfo;

  /** Rejects with `HypercallError`. */
  call<Op extends HypercallOp>(op: Op, ...args: Parameters<Hypercalls[Op]>): Promise<HypercallResult<Op>>;
  /** Maps a peer; the same object while it stays mapped with that access. Rejects as `map_domain` does. */
  mapDomain(domain: DomId, access: MapAccess): Promise<ForeignDomain>;
  /** A peer mapped now with at least that access, or undefined. Cheap: the data plane asks. */
  foreign(domain: DomId, access: MapAccess): ForeignDomain | undefined;
  unmapDomain(domain: DomId, access: MapAccess): Promise<void>;

  /**
   * Makes the domain's doorbell wake `aio`; `onRing` then runs (coalesced, perhaps spuriously) and looks at shared memory for
   * what happened. At most one at a time.
   */
  attachDoorbell(aio: AioContext, onRing: () => void): Disposable;

  /** A domain that we had mapped ended; its pages stay readable but nobody is behind them. */
  onDomainGone(handler: (domain: DomId) => void): Disposable;
  /** Messages of the machine's operator to this domain's program (plain data), answered with plain data. */
  onRequest(handler: ((message: unknown) => unknown) | undefined): void;
  /** The hypervisor went away, or ended this domain. */
  onClose(handler: (reason: string) => void): void;
  close(): void;
}
