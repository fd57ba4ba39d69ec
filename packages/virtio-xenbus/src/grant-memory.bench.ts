/**
 * What lending a buffer costs, granter and mapper together, in one thread. Run with
 * `node --conditions=@virtlab/source packages/virtio-xenbus/src/grant-memory.bench.ts`.
 */
import { domId } from '@virtlab/abi/brands';
import { DMA_FROM_DEVICE, DMA_TO_DEVICE, SegmentList } from '@virtlab/guest-memory';
import { createGrantDeviceMemory } from './grant-device-memory.ts';
import { createGrantDmaMapper } from './grant-dma-mapper.ts';
import { RigDomain } from './testing/rig-domain.ts';
import { XenRig } from './testing/xen-rig.ts';

const PAGE = 4096;
const RUNS = 9;
const TRANSFERS = 200_000;

const rig = new XenRig();
const lender = rig.enlist(new RigDomain(rig, domId(1), 256));
const mapper = rig.enlist(new RigDomain(rig, domId(2), 16));
await mapper.mapDomain(lender.id);
const device = createGrantDeviceMemory({ mapper: mapper.grantMapper, frontendDomain: lender.id });
const { memory, pages, grants } = lender;
const dma = createGrantDmaMapper({ memory, pages, grants, backendDomain: mapper.id });
const list = new SegmentList();
const base = dma.allocate(64 * PAGE);

function measure(
  name: string,
  at: number,
  size: number,
  direction: typeof DMA_FROM_DEVICE | typeof DMA_TO_DEVICE,
): void {
  const runs = Array.from({ length: RUNS + 1 }, () => {
    const start = performance.now();
    for (let i = 0; i < TRANSFERS; i++) {
      dma.share(at, size, direction);
      const { addressLow, addressHigh } = dma;
      list.clear();
      device.map(addressLow, addressHigh, size, direction === DMA_FROM_DEVICE, list);
      device.unmap(list, 0, list.count);
      dma.unshare(addressLow, addressHigh, size, direction);
    }
    return ((performance.now() - start) * 1e6) / TRANSFERS;
  });
  const median = runs.slice(1).toSorted((a, b) => a - b)[(RUNS - 1) / 2]!;
  console.log(`${name}: ${median.toFixed(0)} ns`);
}

console.log('share + map + unmap + unshare, median of 9 runs');
measure('4 KiB, aligned, from the device', base, PAGE, DMA_FROM_DEVICE);
measure('512 bytes to the device', base + 512, 512, DMA_TO_DEVICE);
measure('64 KiB from the device', base, 16 * PAGE, DMA_FROM_DEVICE);
