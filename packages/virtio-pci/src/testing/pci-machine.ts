import type { AioContext } from '@virtlab/aio';
import { IdentityDeviceMemory, IdentityDmaMapper, PageAllocator, memoryRegion } from '@virtlab/guest-memory';
import { DeviceHost, type VirtioDevice } from '@virtlab/virtio';
import { type VirtioPciLink, connectVirtioPci } from '../connect.ts';
import { type PciDoorbells, createPciDoorbells } from '../doorbells.ts';
import { assignBars } from '../enumerate.ts';
import { type InProcessInterruptController, createInterruptController } from '../interrupt-controller.ts';
import { type PciAccess, pciBdf } from '../pci-access.ts';
import { type PciBus, createPciBus } from '../pci-bus.ts';
import { type VirtioPciFunction, createVirtioPciFunction } from '../virtio-pci-function.ts';

export const SLOT = 3;
const MEMORY_SIZE = 8 * 1024 * 1024;
const PAGE_SIZE = 4096;
const WINDOW = { base: 0xe000_0000, size: 0x1000_0000 };
const PORTS = { base: 0xc000, size: 0x1000 };

export interface PciMachineOptions {
  readonly device: VirtioDevice;
  readonly driverAio: AioContext;
  readonly deviceAio: AioContext;
  /** Of the function. Default: enough for a vector each. */
  readonly vectorCount?: number;
  /** Of the driver's interrupt controller; 0 leaves only INTx. */
  readonly vectorCountMax?: number;
  /** Kicks through notifiers of the device's loop. Default: trapped writes. */
  readonly doorbells?: boolean;
  readonly withoutIntx?: boolean;
  readonly notifyMultiplier?: number;
  readonly interfaceKind?: 'modern' | 'transitional' | 'legacy';
  /** How the driver reaches registers. With `window`, no BAR is placed. */
  readonly registers?: 'bars' | 'window' | 'legacy';
}

/** A driver domain with one PCI device in it, all in one thread: bus, device model, interrupt controller, memory. */
export class PciMachine {
  readonly bdf: number = pciBdf(SLOT);
  readonly bus: PciBus = createPciBus();
  readonly dma: IdentityDmaMapper;
  readonly host: DeviceHost;
  readonly interrupts: InProcessInterruptController;
  readonly pciFunction: VirtioPciFunction;
  readonly #options: PciMachineOptions;
  readonly #doorbells: PciDoorbells | undefined;

  constructor(options: PciMachineOptions) {
    const { device, driverAio, deviceAio } = options;
    const { vectorCountMax, vectorCount, notifyMultiplier, interfaceKind } = options;
    const legacy = interfaceKind !== undefined && interfaceKind !== 'modern';
    const memory = memoryRegion(new SharedArrayBuffer(MEMORY_SIZE));
    this.#options = options;
    // As everywhere, nothing is at address 0: to a legacy device page 0 means no queue.
    const pages = new PageAllocator(PAGE_SIZE, MEMORY_SIZE - PAGE_SIZE);
    this.dma = new IdentityDmaMapper(memory, legacy ? { pages } : {});
    this.host = new DeviceHost({ device, aio: deviceAio, legacy, onError: () => undefined });
    this.interrupts = createInterruptController(
      driverAio,
      vectorCountMax === undefined ? {} : { vectorCountMax },
    );
    this.#doorbells = options.doorbells === true ? createPciDoorbells(this.bus, deviceAio) : undefined;
    this.pciFunction = createVirtioPciFunction({
      model: this.host,
      memory: new IdentityDeviceMemory([{ guestAddress: 0, region: memory }]),
      msi: this.interrupts,
      ...(options.withoutIntx === true ? {} : { intx: this.interrupts.line(this.bdf) }),
      ...(vectorCount === undefined ? {} : { vectorCount }),
      ...(notifyMultiplier === undefined ? {} : { notifyMultiplier }),
      ...(interfaceKind === undefined ? {} : { interfaceKind }),
      ...(this.#doorbells === undefined ? {} : { doorbells: this.#doorbells.registrarFor(this.bdf) }),
    });
    this.host.attach(this.pciFunction);
    this.bus.add(SLOT, this.pciFunction);
    if (options.registers !== 'window') this.placeBars();
  }

  /** Firmware's part, once more. */
  placeBars(): void {
    assignBars(this.bus, WINDOW, PORTS);
  }

  /** Connects the driver; `access` may stand between it and the bus. */
  async connect(
    access: PciAccess = this.bus,
    resetTimeoutMs?: number,
    registers: PciMachineOptions['registers'] = this.#options.registers,
  ): Promise<VirtioPciLink> {
    return await connectVirtioPci({
      access,
      bdf: this.bdf,
      interrupts: this.interrupts,
      dma: this.dma,
      aio: this.#options.driverAio,
      registers: registers ?? 'bars',
      ...(this.#doorbells === undefined ? {} : { kicks: this.#doorbells }),
      ...(resetTimeoutMs === undefined ? {} : { resetTimeoutMs }),
    });
  }

  /** Surprise removal. */
  async removeDevice(): Promise<void> {
    this.bus.remove(SLOT);
    this.pciFunction[Symbol.dispose]();
    await this.host.detach();
  }

  /** Ends the device's side, the driver's being closed, and names what is still held. */
  async close(): Promise<readonly string[]> {
    await this.removeDevice();
    this.host[Symbol.dispose]();
    const { driverAio, deviceAio } = this.#options;
    const held: readonly (readonly [number, string])[] = [
      [this.dma.coherentCount, 'coherent buffers'],
      [this.dma.lentCount, 'shares'],
      [this.dma.usedPages, 'pages'],
    ];
    return [
      ...driverAio.leaks().map((leak) => `driver: ${leak}`),
      ...deviceAio.leaks().map((leak) => `device: ${leak}`),
      ...held.filter(([count]) => count > 0).map(([count, what]) => `${count} ${what}`),
    ];
  }
}
