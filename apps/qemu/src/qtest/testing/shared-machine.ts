import { afterAll, beforeAll } from 'vitest';
import { type NodeAioContext, createNodeAioContext } from '@virtlab/aio/node';
import { openFdCount } from '@virtlab/linux';
import { type ConnectVirtioPciOptions, type VirtioPciLink, connectVirtioPci } from '@virtlab/virtio-pci';
import type { ForeignUnderTest } from '@virtlab/virtio/conformance';
import { QemuMachine, type QemuMachineOptions, slotBdf } from '../qemu-machine.ts';

export type MachineOptions = Omit<QemuMachineOptions, 'aio'>;
type Registers = NonNullable<ConnectVirtioPciOptions['registers']>;

/** One QEMU for the tests of a suite, each of which takes its device over from whatever the one before left. */
export class SharedMachine {
  #aio: NodeAioContext | undefined;
  #machine: QemuMachine | undefined;

  /** To be called in a suite: starts the machine before its tests, ends it after them, and looks for leaks. */
  constructor(options: MachineOptions) {
    let fdCount = 0;
    beforeAll(() => {
      fdCount = openFdCount();
      const aio = (this.#aio = createNodeAioContext());
      this.#machine = new QemuMachine({ ...options, aio });
      this.machine.assignBars();
    });
    afterAll(async () => {
      const { aio, machine } = this;
      const held = await machine.close();
      const leaks = [...held, ...aio.leaks()];
      aio[Symbol.dispose]();
      await new Promise((resolve) => void setImmediate(resolve));
      if (openFdCount() !== fdCount) leaks.push(`${openFdCount() - fdCount} file descriptors`);
      if (leaks.length > 0) throw new Error(`The machine leaks: ${leaks.join(', ')}; ${machine.messages}`);
    });
  }

  get aio(): NodeAioContext {
    if (this.#aio === undefined) throw new TypeError('Only in tests');
    return this.#aio;
  }
  get machine(): QemuMachine {
    if (this.#machine === undefined) throw new TypeError('Only in tests');
    return this.#machine;
  }

  /** Takes over the device in a slot. */
  async connect(slot: number, registers: Registers = 'bars'): Promise<VirtioPciLink> {
    const { access, interrupts, dma } = this.machine;
    return await connectVirtioPci({ access, bdf: slotBdf(slot), interrupts, dma, aio: this.aio, registers });
  }

  /** The same, as suites want it. */
  async foreign(slot: number, registers?: Registers): Promise<ForeignUnderTest> {
    const link = await this.connect(slot, registers);
    const { dma } = this.machine;
    const before = { pages: dma.usedPages, lent: dma.lentCount };
    return {
      link,
      driverAio: this.aio,
      settle,
      close: async () => {
        await link[Symbol.asyncDispose]();
        const held = { pages: dma.usedPages - before.pages, lent: dma.lentCount - before.lent };
        return Object.entries(held).flatMap(([what, count]) => (count === 0 ? [] : [`${count} ${what}`]));
      },
    };
  }
}

/** A turn of the event loop, and a moment for the other process. */
export function settle(): Promise<void> {
  return new Promise((resolve) => void setTimeout(resolve, 1));
}
