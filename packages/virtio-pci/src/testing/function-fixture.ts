import { PCI_COMMAND, PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY, PCI_MSIX_CAP } from '@virtlab/abi/pci';
import { VIRTIO_PCI_COMMON_CFG } from '@virtlab/abi/virtio-pci';
import { DMA_OK, type DeviceMemory } from '@virtlab/guest-memory';
import type { AccessWidth, DoorbellRegistrar, IntxLine } from '../pci-function.ts';
import { type VirtioPciFunction, createVirtioPciFunction } from '../virtio-pci-function.ts';
import { RecordingModel } from './recording-model.ts';

type CommonField = keyof typeof VIRTIO_PCI_COMMON_CFG.fields;

/** Where QEMU's layout has things, written out so that a change of ours is noticed. */
export const MODERN_BAR = 4;
export const ISR_OFFSET = 0x1000;
export const DEVICE_OFFSET = 0x2000;
export const NOTIFY_OFFSET = 0x3000;
export const MSIX_BAR = 1;
export const PENDING_OFFSET = 0x800;
export const WINDOW_CAPABILITY = 0x84;
export const MSIX_CAPABILITY = 0x98;

/** Memory that has everything everywhere: registers do not look into it. */
const anyMemory: DeviceMemory = {
  regions: [],
  map: () => DMA_OK,
  unmap: () => undefined,
  mapArea: () => DMA_OK,
  unmapArea: () => undefined,
};

export interface FunctionFixtureOptions {
  readonly model?: RecordingModel;
  readonly vectorCount?: number;
  readonly doorbells?: DoorbellRegistrar;
  readonly withoutIntx?: boolean;
  readonly notifyMultiplier?: number;
  readonly interfaceKind?: 'modern' | 'transitional' | 'legacy';
}

/** A function in front of a recording model, with what it sends written down. */
export class FunctionFixture {
  readonly model: RecordingModel;
  readonly pciFunction: VirtioPciFunction;
  readonly messages: { addressLow: number; addressHigh: number; data: number }[] = [];
  /** Levels of the INTx line, in the order they were set. */
  readonly levels: boolean[] = [];

  constructor(options: FunctionFixtureOptions = {}) {
    this.model = options.model ?? new RecordingModel();
    const intx: IntxLine = { set: (level) => void this.levels.push(level) };
    this.pciFunction = createVirtioPciFunction({
      model: this.model,
      memory: anyMemory,
      msi: {
        send: (addressLow, addressHigh, data) => void this.messages.push({ addressLow, addressHigh, data }),
      },
      ...(options.withoutIntx === true ? {} : { intx }),
      ...(options.vectorCount === undefined ? {} : { vectorCount: options.vectorCount }),
      ...(options.doorbells === undefined ? {} : { doorbells: options.doorbells }),
      ...(options.notifyMultiplier === undefined ? {} : { notifyMultiplier: options.notifyMultiplier }),
      ...(options.interfaceKind === undefined ? {} : { interfaceKind: options.interfaceKind }),
    });
  }

  /** Memory decoding is the bus's business; bus mastering is needed for kicks and messages. */
  enable(more: number = 0): this {
    this.pciFunction.configWrite(PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | more);
    return this;
  }

  read(field: CommonField, half: 0 | 1 = 0): number {
    const { offset, width } = VIRTIO_PCI_COMMON_CFG;
    return this.pciFunction.barRead(
      MODERN_BAR,
      offset[field] + 4 * half,
      Math.min(width[field], 4) as AccessWidth,
    );
  }

  write(field: CommonField, value: number, half: 0 | 1 = 0): void {
    const { offset, width } = VIRTIO_PCI_COMMON_CFG;
    this.pciFunction.barWrite(
      MODERN_BAR,
      offset[field] + 4 * half,
      Math.min(width[field], 4) as AccessWidth,
      value,
    );
  }

  kick(queue: number): void {
    this.pciFunction.barWrite(MODERN_BAR, NOTIFY_OFFSET + 4 * queue, 2, queue);
  }

  readIsr(): number {
    return this.pciFunction.barRead(MODERN_BAR, ISR_OFFSET, 1);
  }

  setMsixFlags(flags: number): void {
    this.pciFunction.configWrite(MSIX_CAPABILITY + PCI_MSIX_CAP.offset.flags, 2, flags);
  }

  programVector(vector: number, data: number, masked: boolean = false): void {
    const entry = 16 * vector;
    for (const [index, word] of [0xfee0_0000, 0x1, data, masked ? 1 : 0].entries()) {
      this.pciFunction.barWrite(MSIX_BAR, entry + 4 * index, 4, word);
    }
  }
}
