/** An address as a bridge keeps it: the first two bytes and the last four, big-endian. */
export interface TableEntry {
  readonly high: number;
  readonly low: number;
  readonly port: number;
  readonly seenMs: number;
}

/** Learned. */
export const LEARNED = 0;
/** No room: in the table, or in the share of this port. */
export const TABLE_FULL = 1;

const NONE = -1;

/**
 * Which port an address was last seen at, in a fixed amount of memory (open addressing, linear probing). No port can have
 * more than its share, so that one that makes up addresses cannot push out the others.
 */
export class MacTable {
  readonly sizeMax: number;
  readonly portSizeMax: number;
  readonly #mask: number;
  readonly #high: Uint16Array;
  readonly #low: Uint32Array;
  /** `NONE` marks a free place. */
  readonly #port: Int32Array;
  readonly #seenMs: Float64Array;
  readonly #countOf: number[] = [];
  /** Grows whenever an address comes, goes or moves. */
  version = 0;
  #count = 0;

  constructor(sizeMax: number, portSizeMax: number) {
    const capacity = 2 ** Math.ceil(Math.log2(sizeMax * 2));
    this.sizeMax = sizeMax;
    this.portSizeMax = portSizeMax;
    this.#mask = capacity - 1;
    this.#high = new Uint16Array(capacity);
    this.#low = new Uint32Array(capacity);
    this.#port = new Int32Array(capacity).fill(NONE);
    this.#seenMs = new Float64Array(capacity);
  }

  get count(): number {
    return this.#count;
  }

  /** The port, or -1 when the address is not known or was last seen before `sinceMs`. */
  find(high: number, low: number, sinceMs: number): number {
    const at = this.#place(high, low);
    return this.#port[at] === NONE || this.#seenMs[at]! < sinceMs ? NONE : this.#port[at]!;
  }

  /** Notes an address that was seen at `port`; one that is known moves there, within the port's share. */
  learn(high: number, low: number, port: number, nowMs: number): typeof LEARNED | typeof TABLE_FULL {
    const at = this.#place(high, low);
    const known = this.#port[at]!;
    if (known !== port) {
      const isFull = known === NONE && this.#count >= this.sizeMax;
      if (isFull || this.countOf(port) >= this.portSizeMax) return TABLE_FULL;
      if (known === NONE) this.#count += 1;
      else this.#countOf[known]! -= 1;
      this.#high[at] = high;
      this.#low[at] = low;
      this.#port[at] = port;
      this.version += 1;
      this.#countOf[port] = this.countOf(port) + 1;
    }
    this.#seenMs[at] = nowMs;
    return LEARNED;
  }

  countOf(port: number): number {
    return this.#countOf[port] ?? 0;
  }

  /** Forgets what was last seen before `sinceMs`. */
  expire(sinceMs: number): void {
    this.#forget((at) => this.#seenMs[at]! < sinceMs);
  }

  /** Forgets a port. */
  removePort(port: number): void {
    this.#forget((at) => this.#port[at] === port);
  }

  /** What is in the table, for people. */
  entries(): TableEntry[] {
    const found: TableEntry[] = [];
    for (let at = 0; at <= this.#mask; at += 1) {
      if (this.#port[at] === NONE) continue;
      const [high, low] = [this.#high[at]!, this.#low[at]!];
      found.push({ high, low, port: this.#port[at]!, seenMs: this.#seenMs[at]! });
    }
    return found;
  }

  /** Where the address stands, or the free place where it would. There always is one: half of the places are free. */
  #place(high: number, low: number): number {
    let at = this.#home(high, low);
    while (this.#port[at] !== NONE && (this.#low[at] !== low || this.#high[at] !== high)) {
      at = (at + 1) & this.#mask;
    }
    return at;
  }

  #home(high: number, low: number): number {
    const mixed = Math.imul(low ^ Math.imul(high, 0x9e37_79b1), 0x85eb_ca6b);
    return (mixed ^ (mixed >>> 15)) & this.#mask;
  }

  /** Starts after a free place, so that what moves into a gap has not been looked at yet. */
  #forget(isForgotten: (at: number) => boolean): void {
    let start = 0;
    while (this.#port[start] !== NONE) start += 1;
    for (let step = 1; step <= this.#mask; step += 1) {
      const at = (start + step) & this.#mask;
      while (this.#port[at] !== NONE && isForgotten(at)) this.#remove(at);
    }
  }

  /** Closes the gap: a later entry of the same run moves up unless it would come before its home. */
  #remove(at: number): void {
    this.version += 1;
    this.#countOf[this.#port[at]!]! -= 1;
    this.#count -= 1;
    let gap = at;
    let next = (gap + 1) & this.#mask;
    for (; this.#port[next] !== NONE; next = (next + 1) & this.#mask) {
      const home = this.#home(this.#high[next]!, this.#low[next]!);
      if (((next - home) & this.#mask) < ((next - gap) & this.#mask)) continue;
      this.#high[gap] = this.#high[next]!;
      this.#low[gap] = this.#low[next]!;
      this.#port[gap] = this.#port[next]!;
      this.#seenMs[gap] = this.#seenMs[next]!;
      gap = next;
    }
    this.#port[gap] = NONE;
  }
}
