import type { MemoryRegion } from '@virtlab/guest-memory';
import { createBufferList } from '../buffer-list.ts';
import type { DescriptorChain, DeviceQueue, DriverQueue } from '../contract.ts';

export const DEVICE_MOVES = [
  'pop',
  'pop',
  'pop',
  'push',
  'push last',
  'undo',
  'call',
  'off',
  'on',
  'look',
  'touch',
  'snapshot',
] as const;
export type DeviceMove = (typeof DEVICE_MOVES)[number];

/** A device half at work while a driver misbehaves. Throws when anything is done that no driver may bring it to. */
export class DeviceUnderFire {
  readonly queue: DeviceQueue;
  /** Chains popped over the whole life. */
  poppedCount = 0;
  readonly #region: MemoryRegion;
  readonly #held: DescriptorChain[] = [];

  constructor({ queue, region }: { readonly queue: DeviceQueue; readonly region: MemoryRegion }) {
    this.queue = queue;
    this.#region = region;
  }

  move(move: DeviceMove): void {
    const { queue } = this;
    switch (move) {
      case 'pop':
        // Ends by itself: what is in flight twice is a violation, so a queue gives at most its size.
        for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
          this.poppedCount++;
          this.#held.push(chain);
        }
        break;
      case 'push':
      case 'push last': {
        const chain = move === 'push' ? this.#held.shift() : this.#held.pop();
        if (chain !== undefined) queue.push(chain, chain.writableSize);
        break;
      }
      case 'undo':
        this.#undo();
        break;
      case 'touch':
        for (const chain of this.#held) touch(chain, this.#region.size);
        break;
      case 'call':
        queue.needsCall();
        break;
      case 'off':
        queue.disableKicks();
        break;
      case 'on':
        queue.enableKicks();
        break;
      case 'look':
        queue.hasAvailable();
        break;
      case 'snapshot':
        structuredClone(queue.snapshot());
    }
    demand(this.#held.length === queue.inFlightCount, `${queue.inFlightCount} in flight`);
    demand(this.#held.length <= queue.size, `${this.#held.length} chains of a queue of ${queue.size}`);
  }

  /** The latest chain; a pop that came after one which was pushed is not the latest any more. */
  #undo(): void {
    const chain = this.#held.at(-1);
    if (chain === undefined) return;
    try {
      this.queue.undoPop(chain);
      this.#held.pop();
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
    }
  }
}

/** All that a device may do with a chain stays inside memory and inside the chain. */
function touch(chain: DescriptorChain, memorySize: number): void {
  const { segments, readableCount, readableSize, writableSize } = chain;
  let sum = 0;
  for (let i = 0; i < segments.count; i++) {
    demand(segments.offset[i]! + segments.size[i]! <= memorySize, `Segment ${i} leaves memory`);
    sum += segments.size[i]!;
  }
  demand(sum === readableSize + writableSize, `Segments of ${sum} bytes`);
  demand(readableCount <= segments.count, `${readableCount} readable segments`);
  demand(chain.read(0, new Uint8Array(Math.min(readableSize, 5000))), 'read refused');
  demand(chain.write(0, new Uint8Array(Math.min(writableSize, 100)).fill(0xff)), 'write refused');
  demand(Number.isNaN(chain.readU32(readableSize - 3)), 'read beyond the chain');
  demand(!chain.writeU16(writableSize - 1, 1), 'wrote beyond the chain');
}

export const DRIVER_MOVES = [
  'add',
  'add',
  'publish',
  'kick',
  'pop',
  'off',
  'on',
  'look',
  'answer',
  'answer',
  'snapshot',
] as const;
export type DriverMove = (typeof DRIVER_MOVES)[number];

/** What a rig gives for `DriverUnderFire`. */
export interface FiringRange {
  readonly queue: DriverQueue;
  readonly payload: number;
  readonly device: { takeAvailable(): readonly number[]; use(id: number, size: number): void };
  close(): boolean;
}

/** A driver half at work while a device misbehaves. Throws when a token comes back that is not outstanding. */
export class DriverUnderFire {
  readonly rig: FiringRange;
  /** Tokens that came back. */
  completedCount = 0;
  readonly #list = createBufferList();
  readonly #outstanding = new Set<number>();
  #next = 0;

  constructor(rig: FiringRange) {
    this.rig = rig;
  }

  move(move: DriverMove): void {
    const { queue, device } = this.rig;
    switch (move) {
      case 'add':
        this.#add();
        break;
      case 'publish':
        queue.publish();
        break;
      case 'kick':
        queue.needsKick();
        break;
      case 'pop':
        this.#pop();
        break;
      case 'off':
        queue.disableCalls();
        break;
      case 'on':
        queue.enableCalls();
        break;
      case 'look':
        queue.hasUsed();
        break;
      case 'answer':
        for (const id of device.takeAvailable()) device.use(id, id & 63);
        break;
      case 'snapshot':
        structuredClone(queue.snapshot());
    }
  }

  /** Every token came back or is abandoned, once; nothing stays shared. */
  finish(): void {
    const { queue } = this.rig;
    demand(queue.inFlightCount === this.#outstanding.size, `${queue.inFlightCount} in flight`);
    const released = queue.release((token) => {
      demand(this.#outstanding.delete(token), `Token ${token} was abandoned, but was not outstanding`);
    });
    demand(released, 'memory held after release');
    demand(this.#outstanding.size === 0, `tokens lost: ${[...this.#outstanding].join(', ')}`);
    demand(this.rig.close(), 'memory held after close');
  }

  #add(): void {
    const count = Math.min(1 + (this.#next % 4), this.rig.queue.size);
    const at = this.rig.payload + (this.#next % 500) * 128;
    this.#list.clear();
    for (let i = 0; i < count; i++) {
      if (i * 2 < count) this.#list.addReadable(at + i * 16, 16);
      else this.#list.addWritable(at + i * 16, 16);
    }
    if (this.rig.queue.add(this.#list, this.#next) === 0) this.#outstanding.add(this.#next++);
  }

  #pop(): void {
    const { queue } = this.rig;
    for (let token = queue.popUsed(); token >= 0; token = queue.popUsed()) {
      demand(this.#outstanding.delete(token), `Token ${token} came back, but was not outstanding`);
      demand(queue.usedSize <= 32, `${queue.usedSize} bytes written`);
      this.completedCount++;
    }
  }
}

function demand(holds: boolean, what: string): void {
  if (!holds) throw new Error(what);
}
