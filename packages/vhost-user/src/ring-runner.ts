/** Starts and stops the queues of a device as the rings of the protocol say ("Ring states"). */
import { VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET } from '@virtlab/abi/virtio';
import {
  VRING_USED,
  VRING_USED_ALIGN_SIZE,
  VRING_PACKED_DESC_ALIGN_SIZE,
  VRING_PACKED_DESC_EVENT,
  VRING_PACKED_EVENT_F_WRAP_CTR,
  vringAvailSize,
  vringDescSize,
  vringPackedDescSize,
  vringUsedSize,
} from '@virtlab/abi/virtio-ring';
import { loadIndexAcquire } from '@virtlab/guest-memory';
import {
  type DeviceHost,
  type QueueAddresses,
  type QueueHandOver,
  type RingFeatures,
  ringFeatures,
} from '@virtlab/virtio';
import type { DirtyLog } from './dirty-log.ts';
import { type Outcome, type ProtocolFault, bad, good, hex, protocolFault } from './fault.ts';
import type { InflightMemory, InflightRecord } from './inflight-area.ts';
import { PackedInflightRecord } from './inflight-packed.ts';
import { SplitInflightRecord } from './inflight-split.ts';
import type { MemoryTable } from './memory-table.ts';
import { ObservedQueue, type QueueObserver, observersOf } from './observed-queue.ts';
import { packedRingLog, usedRingLog } from './used-log.ts';
import type { Vring } from './vring.ts';

const POSITION_BITS = 16;
const POSITION_MASK = (1 << POSITION_BITS) - 1;
/** Slot 0, wrap counter 1 (§2.8.1). */
const NEW_PACKED_RING = 1 << VRING_PACKED_EVENT_F_WRAP_CTR;

/** What the rings run under; the session's to change, between two runs of a ring. */
export interface RingSurroundings {
  readonly inflight: InflightMemory | undefined;
  /** Set while writes are logged. */
  readonly log: DirtyLog | undefined;
}

export interface RingRunnerOptions {
  readonly host: DeviceHost;
  readonly table: MemoryTable;
  readonly vrings: readonly Vring[];
  readonly drainTimeoutMs: number;
  surroundings(): RingSurroundings;
  /** Goes on after a pause: starts rings, and what hangs on them. */
  resume(): ProtocolFault | undefined;
  /** The connection is over: nothing is changed any more. */
  isEnded(): boolean;
}

export class RingRunner {
  readonly #options: RingRunnerOptions;

  constructor(options: RingRunnerOptions) {
    this.#options = options;
  }

  get isAnyRunning(): boolean {
    return this.#options.vrings.some(({ isRunning }) => isRunning);
  }

  /** Starts what should run and does not. A ring with which something is wrong stays stopped; the first such thing is the answer. */
  startAll(): ProtocolFault | undefined {
    let first: ProtocolFault | undefined;
    for (const vring of this.#options.vrings) {
      const fault = this.#isDue(vring) ? this.#start(vring) : undefined;
      if (fault === undefined) continue;
      vring.isStarted = false;
      first ??= fault;
    }
    return first;
  }

  /**
   * Stops a ring once what the device has of it is finished. `base` then says where it stands, and `left` what else there is to
   * know when the time was up before.
   */
  async stop(vring: Vring): Promise<void> {
    if (!vring.isRunning) return;
    const { host, drainTimeoutMs } = this.#options;
    const isPacked = this.#features().packed === true;
    const features = host.driverFeatures;
    const left = await host.stopQueue(vring.index, { timeoutMs: drainTimeoutMs });
    vring.isRunning = false;
    if (left !== undefined) {
      const { available, used } = left.start;
      const base = isPacked ? (available | (used << POSITION_BITS)) >>> 0 : available;
      vring.base = base;
      vring.left = left.takenChains.length === 0 ? undefined : { ...left, base, size: vring.size, features };
    }
    // A connection that ended meanwhile is no stop in order, nor is one with which something was given up: what was kept is for
    // whoever comes next.
    if (!this.#options.isEnded() && vring.left === undefined) vring.record?.end();
    vring.record = undefined;
  }

  async stopAll(): Promise<void> {
    await Promise.all(this.#options.vrings.map(async (vring) => await this.stop(vring)));
  }

  /** Makes a change under which no ring may run, and goes on with those that ran, also where the change was refused. */
  async whileStopped(
    vrings: readonly Vring[],
    change: () => ProtocolFault | undefined,
  ): Promise<ProtocolFault | undefined> {
    await Promise.all(vrings.map(async (vring) => await this.stop(vring)));
    if (this.#options.isEnded()) return protocolFault('CLOSED', 'the connection ended meanwhile');
    const refused = change();
    const fault = this.#options.resume();
    return refused ?? fault;
  }

  #features(): RingFeatures {
    return ringFeatures(this.#options.host.driverFeatures);
  }

  #isDue(vring: Vring): boolean {
    const { status } = this.#options.host;
    const isReady =
      (status & VIRTIO_CONFIG_S_FEATURES_OK) !== 0 && (status & VIRTIO_CONFIG_S_NEEDS_RESET) === 0;
    const isWanted = vring.enabling === 'enabled' || this.#isDiscarded(vring);
    return isReady && vring.isStarted && isWanted && !vring.isRunning;
  }

  #isDiscarded({ index, enabling }: Vring): boolean {
    return enabling === 'disabled' && this.#options.host.discardsWhenDisabled(index);
  }

  #start(vring: Vring): ProtocolFault | undefined {
    const { host } = this.#options;
    const features = this.#features();
    const addresses = this.#addressesOf(vring, features);
    if (!addresses.ok) return addresses.fault;
    const past = this.#pastOf(vring, addresses.value, features);
    if (!past.ok) return past.fault;
    const { start, takenChains, record } = past.value;
    const wrap = this.#wrapOf(vring, addresses.value, features, past.value);
    const isEnabled = host.enableQueue(vring.index, addresses.value, {
      start,
      takenChains,
      isDiscarded: this.#isDiscarded(vring),
      ...(wrap === undefined ? {} : { wrap }),
    });
    if (!isEnabled) {
      return protocolFault(
        'REFUSED',
        `queue ${vring.index}: ${host.violation?.message ?? 'the device is being reset'}`,
      );
    }
    vring.record = record;
    vring.left = undefined;
    vring.isRunning = true;
    return undefined;
  }

  /** Ring addresses are the other side's own; the device works with guest addresses. */
  #addressesOf({ index, size, addresses }: Vring, { packed }: RingFeatures): Outcome<QueueAddresses> {
    if (size === 0 || addresses === undefined) {
      return bad('BAD_STATE', `queue ${index} was started without a size or addresses`);
    }
    const eventSize = VRING_PACKED_DESC_EVENT.size;
    const sizes =
      packed === true
        ? [vringPackedDescSize(size), eventSize, eventSize]
        : [vringDescSize(size), vringAvailSize(size), vringUsedSize(size)];
    const users = [addresses.descriptorArea, addresses.driverArea, addresses.deviceArea];
    const guests = users.map((user, at) => this.#options.table.guestAddressOf(user, BigInt(sizes[at]!)));
    const [descriptorArea, driverArea, deviceArea] = guests;
    if (descriptorArea === undefined || driverArea === undefined || deviceArea === undefined) {
      const at = guests.indexOf(undefined);
      const what = `${hex(sizes[at]!)} bytes at user ${hex(users[at]!)} are in no region`;
      return bad('BAD_VALUE', `queue ${index}: ${what}`);
    }
    return good({ size, descriptorArea, driverArea, deviceArea });
  }

  /** Where the ring goes on: as the other side says, or as was written down by whoever had it before a crash. */
  #pastOf(vring: Vring, addresses: QueueAddresses, features: RingFeatures): Outcome<RingPast> {
    const { inflight } = this.#options.surroundings();
    const isPacked = features.packed === true;
    const usedIdx = isPacked ? 0 : this.#usedIdx(addresses);
    if (usedIdx === undefined)
      return bad('BAD_VALUE', `queue ${vring.index}: the used ring cannot be reached`);
    const available = vring.base & POSITION_MASK;
    const used = isPacked ? packedUsed(vring.base) : usedIdx;
    // In order, what lies between the two was never finished, and is done again.
    const told = {
      start: { available: features.inOrder === true ? used : available, used },
      takenChains: [],
    };
    const place = inflight?.place(vring.index, vring.size, isPacked);
    const isInOrder = features.inOrder === true;
    const record =
      place !== undefined && !isPacked
        ? new SplitInflightRecord(place, vring.size, isInOrder)
        : place && this.#packedRecord(place, addresses, isInOrder);
    if (place !== undefined && record === undefined)
      return bad('BAD_VALUE', `queue ${vring.index}: the ring cannot be reached`);
    // Who stopped the ring knows more than what was written down for others; of another ring that says nothing at all.
    if (vring.left !== undefined) return good({ ...(this.#leftOf(vring, usedIdx) ?? told), record });
    return good({ ...(record?.recover(usedIdx) ?? told), record });
  }

  /** What was left of a ring, if it is this one. A new one cannot be taken for it: it has nothing between its two indices. */
  #leftOf({ left, base, size }: Vring, usedIdx: number): QueueHandOver | undefined {
    const { driverFeatures } = this.#options.host;
    if (left === undefined || left.base !== base || left.size !== size || left.features !== driverFeatures)
      return undefined;
    const isPacked = this.#features().packed === true;
    const { start, takenChains } = left;
    return isPacked || start.used === usedIdx ? { start, takenChains } : undefined;
  }

  #wrapOf(
    vring: Vring,
    { descriptorArea }: QueueAddresses,
    features: RingFeatures,
    { start, takenChains, record }: RingPast,
  ): ((queue: ConstructorParameters<typeof ObservedQueue>[0]) => ObservedQueue) | undefined {
    const { log } = this.#options.surroundings();
    const { addresses, size } = vring;
    const isLogged = log !== undefined && addresses?.isLogged === true;
    if (record === undefined && !isLogged) return undefined;
    return (queue) => {
      const observers: QueueObserver[] = [];
      if (record !== undefined) observers.push(record.begin(start, takenChains, () => queue.position()));
      if (isLogged) {
        const { logAddress } = addresses;
        observers.push(
          features.packed === true
            ? packedRingLog(log, descriptorArea, logAddress, size)
            : usedRingLog(log, logAddress, size),
        );
      }
      return new ObservedQueue(queue, observersOf(observers));
    };
  }

  #usedIdx({ deviceArea, size }: QueueAddresses): number | undefined {
    const memory = this.#options.table.deviceMemory;
    const area = memory.mapArea(deviceArea, vringUsedSize(size), VRING_USED_ALIGN_SIZE, false);
    if (typeof area === 'number') return undefined;
    const usedIdx = loadIndexAcquire(area.region.u16, (area.offset + VRING_USED.offset.idx) / 2);
    memory.unmapArea(area);
    return usedIdx;
  }

  /** The descriptor ring is looked at as long as the ring itself, which holds a mapping of it. */
  #packedRecord(
    place: ConstructorParameters<typeof PackedInflightRecord>[0],
    { descriptorArea, size }: QueueAddresses,
    isInOrder: boolean,
  ): PackedInflightRecord | undefined {
    const memory = this.#options.table.deviceMemory;
    const ringSize = vringPackedDescSize(size);
    const area = memory.mapArea(descriptorArea, ringSize, VRING_PACKED_DESC_ALIGN_SIZE, false);
    if (typeof area === 'number') return undefined;
    memory.unmapArea(area);
    return new PackedInflightRecord(place, { memory: area.region, offset: area.offset, size }, isInOrder);
  }
}

/**
 * DPDK's driver says of a new ring only where its available half is, with zeros in the other: by the letter a whole lap behind,
 * with all of it in flight, which nobody could finish without a record of what it was.
 */
function packedUsed(base: number): number {
  return base === NEW_PACKED_RING ? NEW_PACKED_RING : base >>> POSITION_BITS;
}

interface RingPast extends QueueHandOver {
  readonly record: InflightRecord | undefined;
}
