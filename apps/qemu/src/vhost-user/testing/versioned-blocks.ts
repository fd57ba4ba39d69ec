import { createPrng } from '@virtlab/aio';
import { VIRTIO_BLK_SECTOR_SIZE, VIRTIO_BLK_S_OK } from '@virtlab/abi/virtio-blk';
import type { BlkDriver } from '@virtlab/virtio-blk';

export const BLOCK_SIZE = 4096;
const SECTORS = BLOCK_SIZE / VIRTIO_BLK_SECTOR_SIZE;

/**
 * Keeps `depth` requests in flight on a disk of `depth * blocksEach` blocks. Each slot has blocks of its own and writes them
 * with rising versions, or reads one back and compares it with what it wrote last: whatever is lost, done late or done for
 * somebody else is seen.
 */
export class VersionedBlocks {
  readonly faults: string[] = [];
  completedCount = 0;
  readonly #driver: BlkDriver;
  readonly #depth: number;
  readonly #blocksEach: number;
  readonly #buffers: number;
  readonly #random: () => number;
  readonly #versions: Uint32Array;
  /** Of each slot: its block, and whether it is being read. */
  readonly #current: Int32Array;
  readonly #isRead: Uint8Array;
  readonly #inFlight: Uint8Array;
  #isStopping = false;

  constructor(driver: BlkDriver, depth: number, blocksEach: number, seed: number) {
    this.#driver = driver;
    this.#depth = depth;
    this.#blocksEach = blocksEach;
    this.#buffers = driver.allocateBuffer(depth * BLOCK_SIZE);
    const prng = createPrng(seed);
    this.#random = () => prng.next();
    this.#versions = new Uint32Array(depth * blocksEach);
    this.#current = new Int32Array(depth);
    this.#isRead = new Uint8Array(depth);
    this.#inFlight = new Uint8Array(depth);
    driver.onCompletion((token, completion) => this.#completed(token, completion));
  }

  get inFlightCount(): number {
    return this.#inFlight.reduce((sum, bit) => sum + bit, 0);
  }

  start(): void {
    this.#isStopping = false;
    for (let slot = 0; slot < this.#depth; slot += 1) this.#submit(slot);
    this.#driver.kick();
  }

  /** Nothing new is begun. */
  stop(): void {
    this.#isStopping = true;
  }

  /** What the disk must hold. */
  expected(): Uint8Array {
    const bytes = new Uint8Array(this.#versions.length * BLOCK_SIZE);
    for (const [block, version] of this.#versions.entries()) {
      fill(bytes.subarray(block * BLOCK_SIZE, (block + 1) * BLOCK_SIZE), block, version);
    }
    return bytes;
  }

  #submit(slot: number): void {
    const block = slot * this.#blocksEach + (this.#random() % this.#blocksEach);
    const at = this.#buffers + slot * BLOCK_SIZE;
    const bytes = this.#driver.memory.u8.subarray(at, at + BLOCK_SIZE);
    const isRead = this.#random() % 3 === 0;
    this.#current[slot] = block;
    this.#isRead[slot] = isRead ? 1 : 0;
    this.#inFlight[slot] = 1;
    if (isRead) bytes.fill(0xee);
    else fill(bytes, block, (this.#versions[block]! += 1));
    const sector = block * SECTORS;
    const status = isRead
      ? this.#driver.submitRead(sector, at, BLOCK_SIZE, slot)
      : this.#driver.submitWrite(sector, at, BLOCK_SIZE, slot);
    if (status !== 0) this.faults.push(`slot ${slot} was not taken: ${status}`);
  }

  #completed(slot: number, completion: number): void {
    const block = this.#current[slot]!;
    if (this.#inFlight[slot] === 0) this.faults.push(`slot ${slot} completed twice`);
    if (completion !== VIRTIO_BLK_S_OK) this.faults.push(`block ${block} ended with ${completion}`);
    this.#inFlight[slot] = 0;
    this.completedCount += 1;
    const at = this.#buffers + slot * BLOCK_SIZE;
    if (this.#isRead[slot] === 1) {
      const expected = fill(new Uint8Array(BLOCK_SIZE), block, this.#versions[block]!);
      const found = this.#driver.memory.u8.subarray(at, at + BLOCK_SIZE);
      if (Buffer.compare(expected, found) !== 0) this.faults.push(`block ${block} is not what was written`);
    }
    if (!this.#isStopping && this.faults.length === 0) this.#submit(slot);
  }
}

/** A block that was never written is zeroes. */
function fill(bytes: Uint8Array, block: number, version: number): Uint8Array {
  if (version === 0) return bytes.fill(0);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  bytes.fill((block * 31 + version) & 0xff);
  for (let at = 0; at < bytes.length; at += VIRTIO_BLK_SECTOR_SIZE) {
    view.setUint32(at, block, true);
    view.setUint32(at + 4, version, true);
  }
  return bytes;
}
