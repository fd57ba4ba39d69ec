import {
  IOREQ_PCI_FUNCTION_SHIFT,
  IOREQ_READ,
  IOREQ_TYPE_COPY,
  IOREQ_TYPE_PCI_CONFIG,
  IOREQ_WRITE,
} from '@virtlab/abi/ioreq';
import { PCI_VENDOR_ID } from '@virtlab/abi/pci';
import { domId } from '@virtlab/abi/brands';
import {
  DEVICE_MODEL_ALIVE,
  DEVICE_MODEL_DOMAIN_SHIFT,
  DEVICE_MODEL_NONE,
  DEVICE_MODEL_STATE_MASK,
  type ForeignDomain,
  HypercallError,
  IoreqSlot,
  POSTED_BIT_COUNT,
  PostedBits,
  XEN_PAGES,
} from '@virtlab/hypervisor';
import type {
  AccessWidth,
  InterruptController,
  InterruptVectors,
  KickPath,
  PciAccess,
} from '@virtlab/virtio-pci';
import type { Domain } from './domain.ts';
import { DomainError } from './errors.ts';

/** Where x86 writes message-signalled interrupts: the local APIC's range; the data is the vector. */
export const MSI_ADDRESS = 0xfee0_0000;
/** The last vector tells that a slot changed, as a hotplug GPE does. */
export const HOTPLUG_VECTOR: number = POSTED_BIT_COUNT - 1;
/** The last doorbell says that the ioreq slot holds an access. */
export const IOREQ_DOORBELL: number = POSTED_BIT_COUNT - 1;
/** How long a trap waits for its answer unless told otherwise. */
const TRAP_TIMEOUT_MS_DEFAULT = 5000;

/** What an HVM domain drives PCI with: accesses that trap to its device model, posted interrupts, doorbells. */
export interface HvmPlatform extends Disposable {
  readonly access: PciAccess;
  readonly interrupts: InterruptController;
  readonly kicks: KickPath;
  readonly statistics: {
    readonly trapCount: number;
    readonly unansweredCount: number;
    readonly vectorCount: number;
  };
}

export interface HvmPlatformOptions {
  /**
   * How long a trapped access stops this domain at most. One that nobody answered reads all ones, as on a bus that times out,
   * and so does every later one until that answer has come. Default 5000.
   */
  readonly trapTimeoutMs?: number;
}

/** Rejects with `DomainError` ENODEV when the domain has no device model, or a dead one. */
export async function createHvmPlatform(
  domain: Domain,
  { trapTimeoutMs = TRAP_TIMEOUT_MS_DEFAULT }: HvmPlatformOptions = {},
): Promise<HvmPlatform> {
  const word = Atomics.load(domain.connection.memory.xen.i32, XEN_PAGES.deviceModelState / 4);
  const state = word & DEVICE_MODEL_STATE_MASK;
  if (state === DEVICE_MODEL_NONE) throw new DomainError('ENODEV', `Domain ${domain.id} has no device model`);
  const died = `The device model of domain ${domain.id} died`;
  if (state !== DEVICE_MODEL_ALIVE) throw new DomainError('ENODEV', died);
  try {
    const server = await domain.connection.mapDomain(domId(word >>> DEVICE_MODEL_DOMAIN_SHIFT), 'events');
    return new Platform(domain, server, trapTimeoutMs);
  } catch (error) {
    if (!(error instanceof HypercallError)) throw error;
    throw new DomainError('ENODEV', died, { cause: error });
  }
}

class Platform implements HvmPlatform, PciAccess, KickPath {
  readonly access: PciAccess = this;
  readonly kicks: KickPath = this;
  readonly interrupts: PostedInterruptController;
  readonly #domain: Domain;
  readonly #server: ForeignDomain;
  readonly #slot: IoreqSlot;
  readonly #doorbells: PostedBits;
  readonly #table: Uint32Array;
  readonly #trapTimeoutMs: number;
  readonly #registrations: readonly Disposable[];
  /** The slot holds an access that was not answered in time. */
  #isOverdue = false;
  readonly #removalWatches = new Set<{ readonly bdf: number; readonly onRemoved: () => void }>();
  #trapCount = 0;
  #unansweredCount = 0;

  constructor(domain: Domain, server: ForeignDomain, trapTimeoutMs: number) {
    const { xen } = domain.connection.memory;
    this.#domain = domain;
    this.#server = server;
    this.#trapTimeoutMs = trapTimeoutMs;
    this.#slot = new IoreqSlot(xen, XEN_PAGES.ioreq, 0);
    this.#doorbells = new PostedBits(xen, XEN_PAGES.postedDoorbells);
    this.#table = xen.u32.subarray(
      XEN_PAGES.doorbellTable / 4,
      XEN_PAGES.doorbellTable / 4 + 2 * POSTED_BIT_COUNT,
    );
    this.interrupts = new PostedInterruptController(new PostedBits(xen, XEN_PAGES.postedVectors));
    this.interrupts.onVector(HOTPLUG_VECTOR, () => this.#lookForRemovals());
    this.#registrations = [
      domain.addUpcall(() => this.interrupts.poll()),
      domain.connection.onDomainGone((gone) => gone === server.domain && this.#lookForRemovals()),
    ];
  }

  get statistics(): HvmPlatform['statistics'] {
    return {
      trapCount: this.#trapCount,
      unansweredCount: this.#unansweredCount,
      vectorCount: this.interrupts.vectorCount,
    };
  }

  configRead(bdf: number, offset: number, width: AccessWidth): number {
    return this.#trap(IOREQ_TYPE_PCI_CONFIG, IOREQ_READ, offset, pciAddressHigh(bdf), width, 0);
  }

  configWrite(bdf: number, offset: number, width: AccessWidth, value: number): void {
    this.#trap(IOREQ_TYPE_PCI_CONFIG, IOREQ_WRITE, offset, pciAddressHigh(bdf), width, value);
  }

  memoryRead(address: number, width: AccessWidth): number {
    return this.#trap(IOREQ_TYPE_COPY, IOREQ_READ, address >>> 0, Math.floor(address / 2 ** 32), width, 0);
  }

  memoryWrite(address: number, width: AccessWidth, value: number): void {
    this.#trap(IOREQ_TYPE_COPY, IOREQ_WRITE, address >>> 0, Math.floor(address / 2 ** 32), width, value);
  }

  watchRemoval(bdf: number, onRemoved: () => void): Disposable {
    const watch = { bdf, onRemoved };
    this.#removalWatches.add(watch);
    return { [Symbol.dispose]: () => void this.#removalWatches.delete(watch) };
  }

  kickFor(address: number): (() => void) | undefined {
    for (let bit = 0; bit < IOREQ_DOORBELL; bit += 1) {
      const at = Atomics.load(this.#table, 2 * bit + 1) * 2 ** 32 + Atomics.load(this.#table, 2 * bit);
      if (at !== 0 && at === address) {
        return () => {
          this.#doorbells.post(bit);
          this.#server.ring();
        };
      }
    }
    return undefined;
  }

  [Symbol.dispose](): void {
    for (const registration of this.#registrations) registration[Symbol.dispose]();
    this.#removalWatches.clear();
  }

  #trap(
    type: number,
    direction: number,
    low: number,
    high: number,
    width: AccessWidth,
    value: number,
  ): number {
    this.#trapCount += 1;
    const mask = width === 4 ? 0xffff_ffff : 2 ** (8 * width) - 1;
    if (this.#requireSlot()) {
      this.#slot.submit(type, direction, low, high, width, value);
      this.#doorbells.post(IOREQ_DOORBELL);
      const { connection, aio } = this.#domain;
      const isAnswered = (): boolean => this.#slot.isAnswered();
      if (connection.trap(aio, this.#server, isAnswered, this.#trapTimeoutMs))
        return (this.#slot.takeResponse() & mask) >>> 0;
      this.#isOverdue = true;
    }
    this.#unansweredCount += 1;
    return mask;
  }

  /**
   * An access that was not answered in time keeps the slot: its answer may still come, and would be taken for that of another
   * access. That its device model is dead is seen the same way, and for ever.
   */
  #requireSlot(): boolean {
    if (!this.#isOverdue) return true;
    if (!this.#slot.isAnswered()) return false;
    this.#slot.takeResponse();
    this.#isOverdue = false;
    return true;
  }

  #lookForRemovals(): void {
    for (const watch of this.#removalWatches) {
      if (this.configRead(watch.bdf, PCI_VENDOR_ID, 2) !== 0xffff) continue;
      this.#removalWatches.delete(watch);
      watch.onRemoved();
    }
  }
}

function pciAddressHigh(bdf: number): number {
  return bdf << (IOREQ_PCI_FUNCTION_SHIFT - 32);
}

/** Vectors are bits of the domain's posted-vector area; handlers run in the domain's upcall. There are no INTx lines. */
class PostedInterruptController implements InterruptController {
  readonly #bits: PostedBits;
  readonly #handlers: ((() => void) | undefined)[] = Array.from({ length: POSTED_BIT_COUNT });
  readonly #taken = new Uint8Array(POSTED_BIT_COUNT);
  vectorCount = 0;

  constructor(bits: PostedBits) {
    this.#bits = bits;
    this.#taken[HOTPLUG_VECTOR] = 1;
  }

  onVector(vector: number, handler: (() => void) | undefined): void {
    this.#handlers[vector] = handler;
  }

  poll(): boolean {
    if (!this.#bits.hasOutstanding()) return false;
    const before = this.vectorCount;
    this.#bits.drain((vector) => {
      this.vectorCount += 1;
      this.#handlers[vector]?.();
    });
    return this.vectorCount !== before;
  }

  allocateVectors(count: number): InterruptVectors | undefined {
    const vectors: number[] = [];
    for (let vector = 0; vector < POSTED_BIT_COUNT && vectors.length < count; vector += 1) {
      if (this.#taken[vector] === 0) vectors.push(vector);
    }
    if (vectors.length < count) return undefined;
    for (const vector of vectors) this.#taken[vector] = 1;
    return {
      messages: vectors.map((data) => ({ addressLow: MSI_ADDRESS, addressHigh: 0, data })),
      onVector: (index, handler) => {
        const vector = vectors[index];
        if (vector === undefined) throw new RangeError(`Vector ${index} of ${vectors.length}`);
        this.onVector(vector, handler);
      },
      [Symbol.dispose]: () => {
        for (const vector of vectors.splice(0)) {
          this.#taken[vector] = 0;
          this.onVector(vector, undefined);
        }
      },
    };
  }

  onLine(): undefined {
    return undefined;
  }
}
