import type { DomId } from '@virtlab/abi/brands';
import {
  IOREQ_PCI_FUNCTION_SHIFT,
  IOREQ_READ,
  IOREQ_TYPE_COPY,
  IOREQ_TYPE_PCI_CONFIG,
} from '@virtlab/abi/ioreq';
import {
  PCI_BASE_ADDRESS_0,
  PCI_BASE_ADDRESS_MEM_MASK,
  PCI_COMMAND,
  PCI_COMMAND_MEMORY,
} from '@virtlab/abi/pci';
import { IdentityDeviceMemory, type MemoryRegion } from '@virtlab/guest-memory';
import {
  type ForeignDomain,
  IoreqSlot,
  POSTED_BIT_COUNT,
  PostedBits,
  type TrappedAccess,
  XEN_PAGES,
} from '@virtlab/hypervisor';
import { DeviceHost, type DeviceHostOptions } from '@virtlab/virtio';
import {
  type AccessWidth,
  type DoorbellRegistrar,
  type MsiSink,
  type NotifyAddress,
  type PciBus,
  type VirtioPciFunction,
  createPciBus,
  createVirtioPciFunction,
  pciBdf,
} from '@virtlab/virtio-pci';
import type { Domain } from './domain.ts';
import { HOTPLUG_VECTOR, IOREQ_DOORBELL, MSI_ADDRESS } from './hvm-platform.ts';

/**
 * The device model of one HVM domain: its PCI bus, served from another domain as an ioreq server is. Trapped accesses come
 * through the ioreq page, kicks as posted doorbells, and MSI goes back as posted vectors.
 */
export interface DeviceModelServer extends AsyncDisposable {
  readonly domain: DomId;
  readonly bus: PciBus;
  /** Plugs a virtio device into a slot; the host serves it on this domain's event loop. */
  addDevice(slot: number, options: Omit<DeviceHostOptions, 'aio'>): DeviceHost;
  /** Surprise removal. */
  removeDevice(slot: number): Promise<void>;
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
  readonly #access: TrappedAccess = {
    type: 0,
    direction: 0,
    addressLow: 0,
    addressHigh: 0,
    size: 1,
    data: 0,
  };

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

  addDevice(slot: number, options: Omit<DeviceHostOptions, 'aio'>): DeviceHost {
    const host = new DeviceHost({ ...options, aio: this.#own.aio });
    const pciFunction = createVirtioPciFunction({
      model: host,
      memory: new IdentityDeviceMemory([{ guestAddress: 0, region: this.#ram }]),
      msi: this,
      doorbells: this.#doorbells.registrarFor(pciBdf(slot)),
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
    this.send(MSI_ADDRESS, 0, HOTPLUG_VECTOR);
    await device.host.detach();
    device.pciFunction[Symbol.dispose]();
  }

  /** An MSI write: the local APIC's address, the vector in the data (PCI §6.8.2). Anything else goes nowhere. */
  send(addressLow: number, addressHigh: number, data: number): void {
    if (addressLow !== MSI_ADDRESS || addressHigh !== 0 || data >= POSTED_BIT_COUNT) return;
    this.#vectors.post(data);
    this.#foreign.ring();
  }

  /** Serves what the domain left: kicks and a trapped access. */
  poll(): boolean {
    return this.#doorbells.drain(() => this.#serveTrap()) > 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#devices.keys()].map((slot) => this.removeDevice(slot)));
    this.#upcall[Symbol.dispose]();
  }

  #serveTrap(): void {
    const access = this.#access;
    if (this.#slot.take(access)) this.#slot.answer(access.direction, this.#perform(access));
    this.#foreign.ring();
  }

  #perform({ type, direction, addressLow, addressHigh, size, data }: TrappedAccess): number {
    const width = size as AccessWidth;
    if (type === IOREQ_TYPE_PCI_CONFIG) {
      const bdf = addressHigh >>> (IOREQ_PCI_FUNCTION_SHIFT - 32);
      if (direction === IOREQ_READ) return this.bus.configRead(bdf, addressLow, width);
      this.bus.configWrite(bdf, addressLow, width, data);
      this.#doorbells.place(bdf);
    } else if (type === IOREQ_TYPE_COPY) {
      const address = addressHigh * 2 ** 32 + addressLow;
      if (direction === IOREQ_READ) return this.bus.memoryRead(address, width);
      this.bus.memoryWrite(address, width, data);
    }
    return 0xffff_ffff;
  }
}

interface PostedDoorbell {
  readonly bdf: number;
  readonly address: NotifyAddress;
  readonly onRing: () => void;
}

/** Kicks that bypass the trap: bits that the domain posts, found by the address a kick would be written to. */
class PostedDoorbells {
  readonly #bits: PostedBits;
  readonly #table: Uint32Array;
  readonly #bus: PciBus;
  readonly #doorbells: (PostedDoorbell | undefined)[] = Array.from({ length: IOREQ_DOORBELL });

  constructor(xen: MemoryRegion, bus: PciBus) {
    this.#bits = new PostedBits(xen, XEN_PAGES.postedDoorbells);
    this.#table = xen.u32.subarray(
      XEN_PAGES.doorbellTable / 4,
      XEN_PAGES.doorbellTable / 4 + 2 * POSTED_BIT_COUNT,
    );
    this.#bus = bus;
  }

  registrarFor(bdf: number): DoorbellRegistrar {
    return {
      register: (address, onRing) => {
        const bit = this.#doorbells.indexOf(undefined);
        if (bit < 0) return { [Symbol.dispose]: () => {} }; // none free: this queue's kicks are trapped
        this.#doorbells[bit] = { bdf, address, onRing };
        this.place(bdf);
        return {
          [Symbol.dispose]: () => {
            this.#doorbells[bit] = undefined;
            this.#setAddress(bit, 0);
          },
        };
      },
    };
  }

  /** The function's BARs may have moved: its doorbells move along. */
  place(bdf: number): void {
    for (const [bit, doorbell] of this.#doorbells.entries()) {
      if (doorbell?.bdf === bdf) this.#setAddress(bit, this.#addressOf(doorbell));
    }
  }

  drain(onTrap: () => void): number {
    return this.#bits.drain((bit) => {
      if (bit === IOREQ_DOORBELL) onTrap();
      else this.#doorbells[bit]?.onRing();
    });
  }

  #addressOf({ bdf, address }: PostedDoorbell): number {
    const register = PCI_BASE_ADDRESS_0 + 4 * address.bar;
    if ((this.#bus.configRead(bdf, PCI_COMMAND, 2) & PCI_COMMAND_MEMORY) === 0) return 0;
    const low = (this.#bus.configRead(bdf, register, 4) & PCI_BASE_ADDRESS_MEM_MASK) >>> 0;
    const base = this.#bus.configRead(bdf, register + 4, 4) * 2 ** 32 + low;
    return base === 0 ? 0 : base + address.offset;
  }

  #setAddress(bit: number, address: number): void {
    Atomics.store(this.#table, 2 * bit + 1, Math.floor(address / 2 ** 32));
    Atomics.store(this.#table, 2 * bit, address >>> 0);
  }
}
