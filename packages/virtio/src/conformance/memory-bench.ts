import type { AioContext } from '@virtlab/aio';
import {
  IdentityDeviceMemory,
  IdentityDmaMapper,
  PageAllocator,
  memoryRegion,
  type DeviceMemory,
  type DmaMapper,
  type MemoryRegion,
} from '@virtlab/guest-memory';
import type { VirtioDevice } from '../contract.ts';
import { DeviceHost, type DeviceHostOptions } from '../device-host.ts';
import type { DoorbellPolicy } from '../doorbell.ts';
import { createMemoryTransport } from '../memory.ts';
import type { TransportUnderTest } from './transport-under-test.ts';

/** Two loops and the way to let them run; the caller has made them and knows how. */
export interface LoopPair {
  readonly driverAio: AioContext;
  readonly deviceAio: AioContext;
  settle(): Promise<void>;
}

/** The pair of memory halves, and what they still hold. */
export interface LentMemory {
  readonly memory: MemoryRegion;
  readonly dma: DmaMapper;
  readonly deviceMemory: DeviceMemory;
  leaks(): readonly string[];
}

export interface MemoryBenchOptions {
  readonly loops: LoopPair;
  readonly device: VirtioDevice;
  readonly lent?: LentMemory;
  readonly doorbells?: DoorbellPolicy;
  readonly seed?: number;
  readonly accessPlatform?: boolean;
  readonly hostOptions?: Partial<DeviceHostOptions>;
}

/** A device on the memory transport. */
export interface MemoryBench extends TransportUnderTest {
  removeDevice(reason?: string): Promise<void>;
}

const MEMORY_SIZE = 4 << 20;
/** Device addresses then differ from offsets, and the low words of some wrap. */
const BASE_ADDRESS = 0x1_ffe0_0000n;

/** Memory whose device addresses are guest-physical. */
export function identityMemory(): LentMemory {
  const memory = memoryRegion(new ArrayBuffer(MEMORY_SIZE));
  const pages = new PageAllocator(0, MEMORY_SIZE);
  const dma = new IdentityDmaMapper(memory, { baseAddress: BASE_ADDRESS, pages });
  const deviceMemory = new IdentityDeviceMemory([{ guestAddress: BASE_ADDRESS, region: memory }]);
  const counts = (): readonly (readonly [string, number])[] => [
    ['shares', dma.lentCount],
    ['coherent buffers', dma.coherentCount],
    ['pages', dma.usedPages],
    ['mapped segments', deviceMemory.mappedSegmentCount],
    ['mapped areas', deviceMemory.mappedAreaCount],
  ];
  const leaks = (): readonly string[] =>
    counts().flatMap(([what, count]) => (count === 0 ? [] : [`${count} ${what}`]));
  return { memory, dma, deviceMemory, leaks };
}

/** A device on the memory transport, over the given loops. `close` disposes the loops too. */
export function createMemoryBench(options: MemoryBenchOptions): MemoryBench {
  const { loops, device } = options;
  const { driverAio, deviceAio } = loops;
  const lent = options.lent ?? identityMemory();
  const host = new DeviceHost({ onError: () => undefined, ...options.hostOptions, device, aio: deviceAio });
  const machine = createMemoryTransport({
    host,
    driverAio,
    deviceAio,
    memory: lent.memory,
    dma: lent.dma,
    deviceMemory: lent.deviceMemory,
    ...(options.doorbells === undefined ? {} : { doorbells: options.doorbells }),
    ...(options.seed === undefined ? {} : { seed: options.seed }),
    ...(options.accessPlatform === undefined ? {} : { accessPlatform: options.accessPlatform }),
  });
  return {
    link: machine.link,
    driverAio,
    host,
    settle: () => loops.settle(),
    removeDevice: (reason) => machine.removeDevice(reason),
    close: async () => {
      await machine.close();
      host[Symbol.dispose]();
      const loopsInUse = driverAio === deviceAio ? [driverAio] : [driverAio, deviceAio];
      const leaks = loopsInUse.flatMap((aio) => aio.leaks());
      for (const aio of loopsInUse) aio[Symbol.dispose]();
      return [...lent.leaks(), ...leaks];
    },
  };
}
