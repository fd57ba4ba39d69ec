import {
  IOREQ_PCI_FUNCTION_SHIFT,
  IOREQ_READ,
  IOREQ_TYPE_COPY,
  IOREQ_TYPE_PCI_CONFIG,
  IOREQ_TYPE_PIO,
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
import type { AccessWidth, InterruptController, KickPath, PciAccess } from '@virtlab/virtio-pci';
import type { Domain } from './domain.ts';
import { DomainError } from './errors.ts';
import { HOTPLUG_VECTOR, PostedInterruptController } from './posted-interrupts.ts';

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
    /** Messages' vectors taken, and runs of INTx handlers. */
    readonly vectorCount: number;
    readonly lineCount: number;
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
  #responseHigh = 0;
  readonly #isAnswered = (): boolean => this.#slot.isAnswered();

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
    this.interrupts = new PostedInterruptController(xen, domain.aio);
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
      lineCount: this.interrupts.lines.interruptCount,
    };
  }

  configRead(bdf: number, offset: number, width: AccessWidth): number {
    return this.#trap(IOREQ_TYPE_PCI_CONFIG, IOREQ_READ, offset, pciAddressHigh(bdf), width, 0);
  }

  configWrite(bdf: number, offset: number, width: AccessWidth, value: number): void {
    this.#trap(IOREQ_TYPE_PCI_CONFIG, IOREQ_WRITE, offset, pciAddressHigh(bdf), width, value);
  }

  memoryRead(address: number, width: AccessWidth): number {
    return this.#trap(IOREQ_TYPE_COPY, IOREQ_READ, address >>> 0, highWord(address), width, 0);
  }

  memoryWrite(address: number, width: AccessWidth, value: number): void {
    this.#trap(IOREQ_TYPE_COPY, IOREQ_WRITE, address >>> 0, highWord(address), width, value);
  }

  memoryRead64(address: number): bigint {
    const low = this.#trap(IOREQ_TYPE_COPY, IOREQ_READ, address >>> 0, highWord(address), 8, 0);
    return (BigInt(this.#responseHigh) << 32n) | BigInt(low);
  }

  memoryWrite64(address: number, value: bigint): void {
    const [low, high] = [BigInt.asUintN(32, value), BigInt.asUintN(32, value >> 32n)].map(Number);
    this.#trap(IOREQ_TYPE_COPY, IOREQ_WRITE, address >>> 0, highWord(address), 8, low!, high);
  }

  portRead(port: number, width: AccessWidth): number {
    return this.#trap(IOREQ_TYPE_PIO, IOREQ_READ, port, 0, width, 0);
  }

  portWrite(port: number, width: AccessWidth, value: number): void {
    this.#trap(IOREQ_TYPE_PIO, IOREQ_WRITE, port, 0, width, value);
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
    this.interrupts[Symbol.dispose]();
    this.#removalWatches.clear();
  }

  /** The response, all ones if there is none; of an access of 8 bytes its low half, the other one is `#responseHigh`. */
  #trap(
    type: number,
    direction: number,
    low: number,
    high: number,
    width: AccessWidth | 8,
    value: number,
    valueHigh: number = 0,
  ): number {
    this.#trapCount += 1;
    const mask = width >= 4 ? 0xffff_ffff : 2 ** (8 * width) - 1;
    if (this.#requireSlot()) {
      this.#slot.submit(type, direction, low, high, width, value, valueHigh);
      this.#doorbells.post(IOREQ_DOORBELL);
      const { connection, aio } = this.#domain;
      if (connection.trap(aio, this.#server, this.#isAnswered, this.#trapTimeoutMs)) {
        this.#responseHigh = this.#slot.responseHigh;
        return (this.#slot.takeResponse() & mask) >>> 0;
      }
      this.#isOverdue = true;
    }
    this.#unansweredCount += 1;
    this.#responseHigh = 0xffff_ffff;
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

function highWord(address: number): number {
  return Math.floor(address / 2 ** 32);
}
