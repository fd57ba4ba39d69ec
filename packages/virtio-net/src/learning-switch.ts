import {
  ETHERNET_ADDRESS_SIZE,
  ETHERNET_DESTINATION_OFFSET,
  ETHERNET_GROUP_BIT,
  ETHERNET_HEADER_SIZE,
  ETHERNET_RESERVED_COUNT,
  ETHERNET_RESERVED_HIGH,
  ETHERNET_RESERVED_LOW,
  ETHERNET_SOURCE_OFFSET,
} from '@virtlab/abi/ethernet';
import { LEARNED, MacTable } from './mac-table.ts';
import type { FrameSink, FrameView } from './network.ts';
import { type SwitchCore, type SwitchPort, SwitchPortState } from './switch-port.ts';

export interface LearningSwitchOptions {
  /** An address that was not seen for this long is forgotten. Default 300,000 (802.1Q §8.8.3). */
  readonly agingMs?: number;
  /** Addresses at most. Default 4096. */
  readonly tableSizeMax?: number;
  /** Addresses of one port at most. Default a quarter of `tableSizeMax`, at least one. */
  readonly portTableSizeMax?: number;
  /** Monotonic milliseconds. Default `performance.now`. */
  readonly now?: () => number;
  /** Sees every frame that a station sends. */
  readonly capture?: FrameSink;
}

/** Where a station was seen. */
export interface KnownAddress {
  /** Six bytes. */
  readonly mac: Uint8Array;
  readonly port: string;
  readonly ageMs: number;
}

/**
 * A switch that learns where stations are (802.1Q §8.6 to §8.8, one VLAN, no spanning tree). Frames to a known address
 * go to one port, all others to every port but their own. It holds no frame: a port whose station does not take one
 * loses it, and only that port.
 */
export interface LearningSwitch {
  /** The name is for people and for `removePort`. Throws `TypeError` when there is such a port. */
  addPort(name: string): SwitchPort;
  /** Cuts the wire: what the station still transmits is dropped. False when there is no such port. */
  removePort(name: string): boolean;
  readonly ports: readonly SwitchPort[];
  /** Addresses that are known and not too old. */
  addresses(): readonly KnownAddress[];
}

/** @throws RangeError naming the option that is out of range */
export function createLearningSwitch(options: LearningSwitchOptions = {}): LearningSwitch {
  return new TableSwitch(options);
}

/** The table is searched for addresses that are too old when it is full, this often in the time that makes them so. */
const SWEEPS_IN_AGE = 16;

class TableSwitch implements LearningSwitch, SwitchCore {
  readonly #agingMs: number;
  readonly #now: () => number;
  readonly #capture: FrameSink | undefined;
  readonly #table: MacTable;
  readonly #scratch = new Uint8Array(2 * ETHERNET_ADDRESS_SIZE);
  /** Replaced, never changed, so that a flood in progress keeps its own. */
  #ports: readonly SwitchPortState[] = [];
  /** By number; the numbers of removed ports are used again. */
  readonly #portAt: (SwitchPortState | undefined)[] = [];
  readonly #dirty: SwitchPortState[] = [];
  #batch = 0;
  #nowMs = 0;
  /** The clock is read once a batch. */
  #isTimeFresh = false;
  #sweptMs = Number.NEGATIVE_INFINITY;

  constructor(options: LearningSwitchOptions) {
    const { agingMs = 300_000, tableSizeMax = 4096, now, capture } = options;
    if (!(agingMs > 0)) throw new RangeError(`agingMs ${agingMs} is not positive`);
    const sizeMax = positive('tableSizeMax', tableSizeMax);
    const share = options.portTableSizeMax ?? Math.ceil(sizeMax / 4);
    this.#agingMs = agingMs;
    this.#now = now ?? (() => performance.now());
    this.#capture = capture;
    this.#table = new MacTable(sizeMax, positive('portTableSizeMax', share));
  }

  get ports(): readonly SwitchPort[] {
    return this.#ports;
  }

  addPort(name: string): SwitchPort {
    if (this.#find(name) !== undefined) throw new TypeError(`There is a port ${name} already`);
    const free = this.#portAt.indexOf(undefined);
    const index = free < 0 ? this.#portAt.length : free;
    const port = new SwitchPortState(name, index, this);
    this.#portAt[index] = port;
    this.#ports = [...this.#ports, port];
    return port;
  }

  removePort(name: string): boolean {
    const port = this.#find(name);
    if (port === undefined) return false;
    port.remove();
    this.#portAt[port.index] = undefined;
    this.#ports = this.#ports.filter((other) => other !== port);
    this.#table.removePort(port.index);
    return true;
  }

  addresses(): readonly KnownAddress[] {
    const nowMs = this.#now();
    return this.#table
      .entries()
      .filter(({ seenMs }) => nowMs - seenMs <= this.#agingMs)
      .map(({ high, low, port, seenMs }) => ({
        mac: Uint8Array.of(high >> 8, high, low >>> 24, low >> 16, low >> 8, low),
        port: this.#portAt[port]!.name,
        ageMs: nowMs - seenMs,
      }));
  }

  forward(from: SwitchPortState, frame: FrameView): void {
    const { statistics } = from;
    if (frame.size < ETHERNET_HEADER_SIZE) {
      statistics.rxRunts += 1;
      return;
    }
    statistics.rxFrames += 1;
    statistics.rxBytes += frame.size;
    this.#capture?.capture(frame);
    // Both addresses are read here, each byte once, and decide everything: the sender may change them at any time.
    let bytes: Uint8Array = this.#scratch;
    let at = 0;
    if (frame.memory === undefined) {
      frame.copy(0, bytes.length, bytes, 0);
    } else {
      bytes = frame.memory.u8;
      at = frame.start ?? 0;
    }
    const high = highOf(bytes, at + ETHERNET_DESTINATION_OFFSET);
    const low = lowOf(bytes, at + ETHERNET_DESTINATION_OFFSET);
    const sourceHigh = highOf(bytes, at + ETHERNET_SOURCE_OFFSET);
    const sourceLow = lowOf(bytes, at + ETHERNET_SOURCE_OFFSET);
    const { recent } = from;
    if (recent.matches(this.#batch, this.#table.version, high, low, sourceHigh, sourceLow)) {
      this.#deliver(recent.to!, frame);
    } else {
      this.#decide(from, frame, high, low, sourceHigh, sourceLow);
    }
  }

  /** Ports come and go, and stations answer, while receivers are flushed. */
  flush(): void {
    this.#isTimeFresh = false;
    this.#batch += 1;
    for (let port = this.#dirty.pop(); port !== undefined; port = this.#dirty.pop()) port.flushReceiver();
  }

  /** Low words are signed. */
  #decide(
    from: SwitchPortState,
    frame: FrameView,
    high: number,
    low: number,
    sourceHigh: number,
    sourceLow: number,
  ): void {
    const { statistics } = from;
    if (isGroup(sourceHigh) || (sourceHigh === 0 && sourceLow === 0)) {
      statistics.rxBadSource += 1;
      return;
    }
    const isLearned = this.#learn(from, sourceHigh, sourceLow >>> 0);
    if (high === ETHERNET_RESERVED_HIGH && isReserved(low >>> 0)) {
      statistics.rxReserved += 1;
      return;
    }
    const known = isGroup(high) ? -1 : this.#table.find(high, low >>> 0, this.#nowMs - this.#agingMs);
    if (known < 0) {
      this.#flood(from, frame);
    } else if (known === from.index) {
      statistics.rxOwnSegment += 1;
    } else {
      const to = this.#portAt[known]!;
      if (isLearned) from.recent.set(to, this.#batch, this.#table.version, high, low, sourceHigh, sourceLow);
      this.#deliver(to, frame);
    }
  }

  #learn(from: SwitchPortState, high: number, low: number): boolean {
    if (!this.#isTimeFresh) {
      this.#isTimeFresh = true;
      this.#nowMs = this.#now();
    }
    if (this.#table.learn(high, low, from.index, this.#nowMs) === LEARNED) return true;
    if (this.#nowMs - this.#sweptMs >= this.#agingMs / SWEEPS_IN_AGE) {
      this.#sweptMs = this.#nowMs;
      this.#table.expire(this.#nowMs - this.#agingMs);
      if (this.#table.learn(high, low, from.index, this.#nowMs) === LEARNED) return true;
    }
    from.statistics.notLearned += 1;
    return false;
  }

  #flood(from: SwitchPortState, frame: FrameView): void {
    from.statistics.flooded += 1;
    const ports = this.#ports;
    for (let index = 0; index < ports.length; index += 1) {
      const port = ports[index]!;
      if (port !== from) this.#deliver(port, frame);
    }
  }

  #deliver(port: SwitchPortState, frame: FrameView): void {
    if (!port.deliver(frame) || port.isDirty) return;
    port.isDirty = true;
    this.#dirty.push(port);
  }

  #find(name: string): SwitchPortState | undefined {
    return this.#ports.find((port) => port.name === name);
  }
}

function highOf(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}

function lowOf(bytes: Uint8Array, at: number): number {
  return (bytes[at + 2]! << 24) | (bytes[at + 3]! << 16) | (bytes[at + 4]! << 8) | bytes[at + 5]!;
}

function isGroup(high: number): boolean {
  return ((high >>> 8) & ETHERNET_GROUP_BIT) !== 0;
}

function isReserved(low: number): boolean {
  return low >= ETHERNET_RESERVED_LOW && low < ETHERNET_RESERVED_LOW + ETHERNET_RESERVED_COUNT;
}

function positive(name: string, value: number): number {
  if (!Number.isInteger(value) || value < 1)
    throw new RangeError(`${name} ${value} is not a positive integer`);
  return value;
}
