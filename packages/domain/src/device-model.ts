import type { DomId } from '@virtlab/abi/brands';
import {
  IOREQ_PCI_FUNCTION_SHIFT,
  IOREQ_READ,
  IOREQ_TYPE_COPY,
  IOREQ_TYPE_PCI_CONFIG,
  IOREQ_TYPE_PIO,
} from '@virtlab/abi/ioreq';
import { IdentityDeviceMemory, type MemoryRegion } from '@virtlab/guest-memory';
import {
  type ForeignDomain,
  IoreqSlot,
  PostedBits,
  type TrappedAccess,
  XEN_PAGES,
} from '@virtlab/hypervisor';
import { DeviceHost, type DeviceHostOptions } from '@virtlab/virtio';
import {
  type AccessWidth,
  type MsiSink,
  type PciBus,
  type VirtioPciFunction,
  type VirtioPciFunctionOptions,
  createPciBus,
  createVirtioPciFunction,
  pciBdf,
} from '@virtlab/virtio-pci';
import type { Domain } from './domain.ts';
import { intxLine } from './intx-lines.ts';
import { NO_VECTOR, msiVector } from './msi-message.ts';
import { PostedDoorbells } from './posted-doorbells.ts';
import { HOTPLUG_VECTOR } from './posted-interrupts.ts';

/**
 * The device model of one HVM domain: its PCI bus, served from another domain as an ioreq server is. Trapped accesses come
 * through the ioreq page, kicks as posted doorbells; MSI goes back as posted vectors, INTx as levels.
 */
export interface DeviceModelServer extends AsyncDisposable {
  readonly domain: DomId;
  readonly bus: PciBus;
  readonly statistics: DeviceModelStatistics;
  /** Plugs a virtio device into a slot; the host serves it on this domain's event loop. */
  addDevice(slot: number, options: PciDeviceOptions): DeviceHost;
  /** Surprise removal. */
  removeDevice(slot: number): Promise<void>;
}

export interface PciDeviceOptions extends Omit<DeviceHostOptions, 'aio'> {
  /** What the function is like. Default: modern, a vector for each queue. */
  readonly pci?: Pick<VirtioPciFunctionOptions, 'vectorCount' | 'notifyMultiplier' | 'interfaceKind'>;
}

export interface DeviceModelStatistics {
  /** Accesses served. */
  readonly trapCount: number;
  /** MSI messages that became vectors of the domain, and others (dropped). */
  readonly messageCount: number;
  readonly strayMessageCount: number;
}

/** Rejects with `HypercallError`: EINVAL for a domain that is not HVM, EEXIST when it has a device model, ESRCH. */
export async function createDeviceModel(own: Domain, domain: DomId): Promise<DeviceModelServer> {
  const foreign = await own.mapDomain(domain);
  const server = new HvmDeviceModel(own, domain, foreign);
  try {
    await own.connection.serveTraps(domain, () => void server.poll());
    return server;
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
}

interface PluggedDevice {
  readonly host: DeviceHost;
  readonly pciFunction: VirtioPciFunction;
}

class HvmDeviceModel implements DeviceModelServer, MsiSink {
  readonly domain: DomId;
  readonly bus: PciBus = createPciBus();
  readonly #own: Domain;
  readonly #foreign: ForeignDomain;
  readonly #ram: MemoryRegion;
  readonly #slot: IoreqSlot;
  readonly #vectors: PostedBits;
  readonly #doorbells: PostedDoorbells;
  readonly #upcall: Disposable;
  readonly #devices = new Map<number, PluggedDevice>();
  readonly statistics = { trapCount: 0, messageCount: 0, strayMessageCount: 0 };
  readonly #access: TrappedAccess = {
    type: 0,
    direction: 0,
    addressLow: 0,
    addressHigh: 0,
    size: 1,
    data: 0,
    dataHigh: 0,
  };
  /** Upper half of what an access of 8 bytes read. */
  #answerHigh = 0;

  constructor(own: Domain, domain: DomId, foreign: ForeignDomain) {
    const { xen, ram } = foreign.memory;
    if (ram === undefined) throw new TypeError(`A device model needs the memory of domain ${domain}`);
    this.domain = domain;
    this.#own = own;
    this.#foreign = foreign;
    this.#ram = ram;
    this.#slot = new IoreqSlot(xen, XEN_PAGES.ioreq, 0);
    this.#vectors = new PostedBits(xen, XEN_PAGES.postedVectors);
    this.#doorbells = new PostedDoorbells(xen, this.bus);
    this.#upcall = own.addUpcall(() => this.poll());
  }

  addDevice(slot: number, { pci, ...options }: PciDeviceOptions): DeviceHost {
    const host = new DeviceHost({ ...options, aio: this.#own.aio });
    const pciFunction = createVirtioPciFunction({
      model: host,
      memory: new IdentityDeviceMemory([{ guestAddress: 0, region: this.#ram }]),
      msi: this,
      intx: intxLine(this.#foreign.memory.xen, slot, () => this.#foreign.ring()),
      doorbells: this.#doorbells.registrarFor(pciBdf(slot)),
      ...pci,
    });
    host.attach(pciFunction);
    this.bus.add(slot, pciFunction);
    this.#devices.set(slot, { host, pciFunction });
    return host;
  }

  async removeDevice(slot: number): Promise<void> {
    const device = this.#devices.get(slot);
    if (device === undefined) return;
    this.#devices.delete(slot);
    this.bus.remove(slot);
    this.#post(HOTPLUG_VECTOR);
    await device.host.detach();
    device.pciFunction[Symbol.dispose]();
  }

  /** An MSI write (PCI §6.8.2), decoded as x86 does; what interrupts nobody goes nowhere. */
  send(addressLow: number, addressHigh: number, data: number): void {
    const vector = msiVector(addressLow, addressHigh, data);
    if (vector === NO_VECTOR) {
      this.statistics.strayMessageCount += 1;
      return;
    }
    this.statistics.messageCount += 1;
    this.#post(vector);
  }

  /** Serves what the domain left: kicks and a trapped access. */
  poll(): boolean {
    return this.#doorbells.drain(() => this.#serveTrap()) > 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#devices.keys()].map((slot) => this.removeDevice(slot)));
    this.#upcall[Symbol.dispose]();
  }

  #post(vector: number): void {
    this.#vectors.post(vector);
    this.#foreign.ring();
  }

  #serveTrap(): void {
    const access = this.#access;
    if (this.#slot.take(access)) {
      this.statistics.trapCount += 1;
      this.#answerHigh = 0;
      const answer = this.#perform(access);
      this.#slot.answer(access.direction, answer, this.#answerHigh);
    }
    this.#foreign.ring();
  }

  /** What a read answers; what has no such width, as configuration space none of 8 bytes, is all ones. */
  #perform({ type, direction, addressLow, addressHigh, size, data, dataHigh }: TrappedAccess): number {
    const isRead = direction === IOREQ_READ;
    const address = addressHigh * 2 ** 32 + addressLow;
    if (size === 8) return this.#performWide(type, isRead, address, data, dataHigh);
    const width = size as AccessWidth;
    if (type === IOREQ_TYPE_PCI_CONFIG) {
      const bdf = addressHigh >>> (IOREQ_PCI_FUNCTION_SHIFT - 32);
      if (isRead) return this.bus.configRead(bdf, addressLow, width);
      this.bus.configWrite(bdf, addressLow, width, data);
      this.#doorbells.place(bdf);
    } else if (type === IOREQ_TYPE_COPY) {
      if (isRead) return this.bus.memoryRead(address, width);
      this.bus.memoryWrite(address, width, data);
    } else if (type === IOREQ_TYPE_PIO) {
      if (isRead) return this.bus.portRead(address, width);
      this.bus.portWrite(address, width, data);
    }
    return 0xffff_ffff;
  }

  #performWide(type: number, isRead: boolean, address: number, data: number, dataHigh: number): number {
    this.#answerHigh = 0xffff_ffff;
    if (type !== IOREQ_TYPE_COPY) return 0xffff_ffff;
    if (!isRead) {
      this.bus.memoryWrite64(address, (BigInt(dataHigh) << 32n) | BigInt(data));
      return 0xffff_ffff;
    }
    const value = this.bus.memoryRead64(address);
    this.#answerHigh = Number(value >> 32n);
    return Number(BigInt.asUintN(32, value));
  }
}
