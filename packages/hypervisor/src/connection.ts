import type { DomId } from '@virtlab/abi/brands';
import type { AioContext } from '@virtlab/aio';
import type { MemoryRegion } from '@virtlab/guest-memory';
import type { DomainMemory } from './domain-memory.ts';
import type {
  DomainProgram,
  HypercallOp,
  HypercallResult,
  Hypercalls,
  MapAccess,
  StartInfo,
} from './hypercalls.ts';

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
  /** Ends all access to the peer. */
  unmapDomain(domain: DomId): Promise<void>;

  /**
   * Makes the domain's doorbell wake `aio`. `poll` looks at shared memory for what happened, does it, and answers whether there
   * was anything; it runs after a ring, and whenever the context polls. At most one at a time.
   */
  attachDoorbell(aio: AioContext, poll: () => boolean): Disposable;

  /**
   * Becomes the device model of an HVM domain. Where both share a thread, `serve` is what a trapped access of that domain
   * runs; across processes it is only rung for.
   */
  serveTraps(domain: DomId, serve: () => void): Promise<void>;
  /**
   * Gives the device model a trapped access of this domain and stops until `done`: the vCPU is in the trap. False when
   * nobody answers: no device model, or it died, or `timeoutMs` passed.
   */
  trap(aio: AioContext, deviceModel: ForeignDomain, done: () => boolean, timeoutMs: number): boolean;

  /** A domain that we had mapped ended; its pages stay readable but nobody is behind them. */
  onDomainGone(handler: (domain: DomId) => void): Disposable;
  /** Messages of the machine's operator to this domain's program (plain data), answered with plain data. */
  onRequest(handler: ((message: unknown) => unknown) | undefined): void;
  /** The hypervisor went away, or ended this domain. */
  onClose(handler: (reason: string) => void): void;
  close(): void;
}
