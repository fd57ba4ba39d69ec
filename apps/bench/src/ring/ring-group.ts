import { compare } from '../compare.ts';
import type { BenchPlan, Contender } from '../contender.ts';
import type { ComparisonReport, GroupText } from '../report/report.ts';
import { bothHalves, deviceHalf, runBatches } from './our-rings.ts';
import { RawDriver } from './raw-driver.ts';
import { BATCH_COUNT, RING_SIZE, type RequestShape } from './request-shape.ts';
import { type RingLayout, ringLayout } from './ring-layout.ts';
import { type V86Queues, type V86Ring, loadV86Queues } from './v86-queue.ts';

/** Design §5: rust-vmm's own figures for its device half behind raw stores. */
const SHAPES: readonly RequestShape[] = [
  { bufferCount: 1, isIndirect: false, budgetNs: 50 },
  { bufferCount: 1, isIndirect: true, budgetNs: undefined },
  { bufferCount: 3, isIndirect: false, budgetNs: 90 },
  { bufferCount: 3, isIndirect: true, budgetNs: undefined },
];

export const RING_TEXT: GroupText = {
  title: 'Split ring in one thread',
  method: [
    `One request goes from driver to device and back, in batches of ${BATCH_COUNT} over a ring of ${RING_SIZE} entries with EVENT_IDX. No payload is touched.`,
    '**Both halves**: `add`, `needsKick` (which publishes), `pop`, `push`, `needsCall` (which publishes), `popUsed`. **Device half**: the driver is replaced by plain stores of descriptors and ring entries and one look at the used ring, which keeps no books. **v86**: the virtqueue of the npm package v86, published build, behind that same raw driver: `has_request`, `pop_request`, `push_reply`, `flush_replies`. It is given guest memory in a plain typed array, which is its best case, and the WebAssembly memory of its own emulator. So the device half and v86 do the same work on the same descriptors; both halves do more than that.',
    'v86 checks nothing of what the driver wrote and with EVENT_IDX calls after every batch; ours checks every index, address and length. Calls are counted for it, kicks are not, for the raw driver looks at no event index.',
    "The budgets are the figures of rust-vmm's `virtio-queue` (51 and 89 ns measured for the same shape, batch 16, raw driver stores); not from this run. v86's source with its left-over logging removed measured 55 and 99 ns in the same place: its published build formats five strings a descriptor and throws them away.",
  ],
  findings: [
    'The same loop with a device half that only copies indices, checks nothing and keeps no books takes 22 ns for 1 descriptor and 48 ns for 3 where it was profiled (an AMD EPYC): stores and loads, and five atomics for a batch. What our device half takes beyond that is, for each descriptor, finding the memory behind its address and noting the segment; for each request, the books that keep a chain from being completed twice. An atomic takes some 8 ns, so with batches they are not what matters.',
    "Both halves add the driver's own books: a private copy of every descriptor that was lent, so that nothing which the device can write is ever read back to end a share.",
  ],
};

export async function runRing(plan: BenchPlan): Promise<ComparisonReport[]> {
  await using v86 = await loadV86Queues();
  const reports: ComparisonReport[] = [];
  for (const shape of SHAPES) {
    const { bufferCount, isIndirect } = shape;
    const title = `${bufferCount} descriptor${bufferCount > 1 ? 's' : ''}, ${isIndirect ? 'indirect' : 'direct'}`;
    const contenders = [bothHalves(shape), deviceHalf(shape), ...v86Contenders(v86, shape)];
    reports.push(await compare({ title, operation: 'request', contenders }, plan));
  }
  return reports;
}

function v86Contenders(v86: V86Queues, { bufferCount, isIndirect }: RequestShape): Contender[] {
  const contender = (
    name: string,
    base: number,
    make: (layout: RingLayout, isIndirect: boolean) => V86Ring,
  ): Contender => {
    const layout = ringLayout(RING_SIZE, bufferCount, base);
    const ring = make(layout, isIndirect);
    const driver = new RawDriver(ring.memory, layout, bufferCount, isIndirect);
    return {
      name,
      isPeer: true,
      run: (count) => {
        const before = ring.irqCount();
        const result = runBatches(count, () => v86Batch(driver, ring));
        return { ...result, doorbells: { kicks: 0, calls: ring.irqCount() - before } };
      },
    };
  };
  // Address 0 is "not configured" to v86, so no ring begins there.
  return [
    contender('v86, typed array', 4096, (...ring) => v86.onTypedArrays(...ring)),
    contender('v86, its own memory', v86.guestBase, (...ring) => v86.onGuestMemory(...ring)),
  ];
}

function v86Batch(driver: RawDriver, { queue }: V86Ring): number {
  driver.offer(BATCH_COUNT);
  while (queue.has_request()) {
    const chain = queue.pop_request();
    chain.length_written = chain.length_writable;
    queue.push_reply(chain);
  }
  queue.flush_replies();
  return driver.collect();
}
