import { createAioContext } from '@virtlab/aio';
import { IdentityDeviceMemory, IdentityDmaMapper, memoryRegion } from '@virtlab/guest-memory';
import { DeviceHost } from '@virtlab/virtio';
import { createBlkDevice, createMemoryBackend } from '@virtlab/virtio-blk';
import {
  assignBars,
  connectVirtioPci,
  createInterruptController,
  createPciBus,
  createPciDoorbells,
  createVirtioPciFunction,
  pciBdf,
} from '@virtlab/virtio-pci';
import { describeBlkio } from './conformance.ts';
import type { DiskUnderTest } from './conformance.ts';

const CAPACITY = 512 * 1024;
const SLOT = 3;

async function plug(): Promise<DiskUnderTest> {
  const ram = memoryRegion(new ArrayBuffer(4 << 20));
  const aio = createAioContext();
  const interrupts = createInterruptController(aio);
  const bus = createPciBus();
  const doorbells = createPciDoorbells(bus, aio);
  const bdf = pciBdf(SLOT);
  const backend = createMemoryBackend({ contents: CAPACITY });
  const host = new DeviceHost({ device: createBlkDevice({ backend, queueSize: 64 }), aio });
  const pciFunction = createVirtioPciFunction({
    model: host,
    memory: new IdentityDeviceMemory([{ guestAddress: 0, region: ram }]),
    msi: interrupts,
    intx: interrupts.line(bdf),
    doorbells: doorbells.registrarFor(bdf),
  });
  host.attach(pciFunction);
  bus.add(SLOT, pciFunction);
  assignBars(bus, { base: 0xe000_0000, size: 0x1000_0000 });
  const dma = new IdentityDmaMapper(ram);
  const link = await connectVirtioPci({ access: bus, bdf, interrupts, dma, aio, kicks: doorbells });
  return {
    link,
    aio,
    close: async () => {
      await link[Symbol.asyncDispose]();
      bus.remove(SLOT);
      pciFunction[Symbol.dispose]();
      await host.detach();
      host[Symbol.dispose]();
      const held = { pages: dma.usedPages, shares: dma.lentCount, 'coherent buffers': dma.coherentCount };
      const leaks = aio.leaks();
      aio[Symbol.dispose]();
      return [
        ...Object.entries(held).flatMap(([what, count]) => (count === 0 ? [] : [`${count} ${what}`])),
        ...leaks,
      ];
    },
  };
}

describeBlkio({ name: 'our own device behind virtio-pci', capacity: CAPACITY, create: plug });
