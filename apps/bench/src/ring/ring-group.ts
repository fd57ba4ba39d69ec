import { compare } from '../compare.ts';
import type { BenchPlan, Contender } from '../contender.ts';
import type { ComparisonReport, GroupText } from '../report/report.ts';
import { bothHalves, deviceHalf, runBatches } from './our-rings.ts';
import { RawDriver } from './raw-driver.ts';
import { BATCH_COUNT, RING_SIZE, type RequestShape, VARIANTS, featuresOf } from './request-shape.ts';
import { type RingLayout, ringLayout } from './ring-layout.ts';
import { type V86Queues, type V86Ring, loadV86Queues } from './v86-queue.ts';
import { importV86, withoutLogging } from './v86-build.ts';

/** Design §5: rust-vmm's own figures for its device half behind raw stores. */
const SHAPES: readonly RequestShape[] = [
  { bufferCount: 1, isIndirect: false, budgetNs: 50 },
  { bufferCount: 1, isIndirect: true, budgetNs: undefined },
  { bufferCount: 3, isIndirect: false, budgetNs: 90 },
  { bufferCount: 3, isIndirect: true, budgetNs: undefined },
];

const METHOD: readonly string[] = [
  `One request goes from driver to device and back, in batches of ${BATCH_COUNT} over a ring of ${RING_SIZE} entries. No payload is touched. Doorbells are suppressed by EVENT_IDX or by flags; in order means IN_ORDER beside EVENT_IDX.`,
  '**Both halves**: `add`, `needsKick` (which publishes), `pop`, `push`, `needsCall` (which publishes), `popUsed`. A request of one buffer takes a table only where a driver insists; ours does not. **Device half**: the driver is replaced by plain stores of descriptors and ring entries and one look at what was used, which keeps no books.',
  '**v86**: the split virtqueue of the npm package v86 behind the same raw driver, with EVENT_IDX: `has_request`, `pop_request`, `push_reply`, `flush_replies`. **Published** is its build as it is; **without logging** is that build less five calls that format words of each descriptor for a log line which its compiler removed (`src/ring/v86-build.ts`): the fair one. Each is given guest memory in a plain typed array, which is its best case, and the WebAssembly memory of its own emulator. It checks nothing of what the driver wrote, and with EVENT_IDX calls after every batch; ours checks every index, address and length. Calls are counted for it, kicks are not, for the raw driver looks at no event index.',
];

export const RING_TEXT: GroupText = {
  title: 'Split ring in one thread',
  method: [
    ...METHOD,
    "The budgets are the figures of rust-vmm's `virtio-queue` (51 and 89 ns measured for the same shape, batch 16, raw driver stores); not from this run.",
  ],
  findings: [
    'The same loop with a device half that only copies indices, checks nothing and keeps no books takes 22 ns for 1 descriptor and 48 ns for 3 where it was profiled (an AMD EPYC): stores and loads, and five atomics for a batch. What our device half takes beyond that is, for each descriptor, finding the memory behind its address and noting the segment; for each request, the books that keep a chain from being completed twice. An atomic takes some 8 ns, so with batches they are not what matters.',
    "Both halves add the driver's own books: a private copy of every descriptor that was lent, so that nothing which the device can write is ever read back to end a share. They miss a budget that is that of a device half alone.",
    'Without its logging v86 is what a virtqueue costs that checks nothing: an object for every descriptor and two arrays for every chain. Our device half reads the same words, checks them all, finds the memory behind each and notes it in arrays that are used again: for 3 descriptors that comes to less, for one or for a table to somewhat more.',
  ],
};

export const RING_PACKED_TEXT: GroupText = {
  title: 'Packed ring in one thread',
  method: [
    ...METHOD,
    'The same shapes as above, in a process of its own so that the code is specialised for this format alone. v86 has no packed ring; its split one is beside ours for scale.',
  ],
  findings: [
    'A packed descriptor holds its own state, so one cache line is written and read back instead of three. In one thread that hardly shows: the same words are checked, and the flags of each descriptor have to be told from those of the lap before.',
  ],
};

export async function runRing(plan: BenchPlan): Promise<ComparisonReport[]> {
  return await runFormat(plan, false);
}

export async function runRingPacked(plan: BenchPlan): Promise<ComparisonReport[]> {
  return await runFormat(plan, true);
}

async function runFormat(plan: BenchPlan, packed: boolean): Promise<ComparisonReport[]> {
  const { folder } = plan;
  await using published = await loadV86Queues(await importV86(folder, 'published'));
  await using silent = await loadV86Queues(await importV86(folder, 'silent', withoutLogging));
  const withGuests = !packed && plan.isBrief !== true;
  await using publishedGuest = withGuests
    ? await loadV86Queues(await importV86(folder, 'published-guest'))
    : undefined;
  await using silentGuest = withGuests
    ? await loadV86Queues(await importV86(folder, 'silent-guest', withoutLogging))
    : undefined;
  const reports: ComparisonReport[] = [];
  for (const shape of plan.isBrief === true ? SHAPES.slice(-1) : SHAPES) {
    const { bufferCount, isIndirect } = shape;
    const title = `${bufferCount} descriptor${bufferCount > 1 ? 's' : ''}, ${isIndirect ? 'indirect' : 'direct'}`;
    const contenders = [
      ...ours(packed, shape),
      ...v86On(published, 'v86, published', shape, false),
      ...v86On(silent, 'v86, without logging', shape, false),
      ...v86On(publishedGuest, 'v86, published, its own memory', shape, true),
      ...v86On(silentGuest, 'v86, without logging, its own memory', shape, true),
    ];
    reports.push(await compare({ title, operation: 'request', contenders, runShare: 0.5 }, plan));
  }
  return reports;
}

function ours(packed: boolean, shape: RequestShape): Contender[] {
  return [bothHalves, deviceHalf].flatMap((make) =>
    VARIANTS.map((variant, index) => {
      const budgeted = index === 0 && !packed ? shape : { ...shape, budgetNs: undefined };
      return make(variant.words, budgeted, featuresOf(packed, shape.isIndirect, variant));
    }),
  );
}

/** On a plain typed array, or on the memory of the emulator. Address 0 is "not configured" to v86, so no ring begins there. */
function v86On(
  v86: V86Queues | undefined,
  name: string,
  shape: RequestShape,
  isOnGuest: boolean,
): Contender[] {
  if (v86 === undefined) return [];
  return isOnGuest
    ? [v86Contender(name, v86.guestBase, shape, (...ring) => v86.onGuestMemory(...ring))]
    : [v86Contender(name, 4096, shape, (...ring) => v86.onTypedArrays(...ring))];
}

function v86Contender(
  name: string,
  base: number,
  { bufferCount, isIndirect }: RequestShape,
  make: (layout: RingLayout, isIndirect: boolean) => V86Ring,
): Contender {
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
