import type { FrameReceiver, FrameView, NetPort } from './network.ts';
import { RecentWay } from './recent-way.ts';

/** Counters since the port was added, as the switch sees the directions: rx is from the station, tx to it. */
export interface SwitchPortStatistics {
  readonly rxFrames: number;
  readonly rxBytes: number;
  readonly txFrames: number;
  readonly txBytes: number;
  /** Of `rxFrames`: sent to all other ports, because the destination is a group, or where it is was not known. */
  readonly flooded: number;
  /** From the station and dropped: no frame; a source that no station can have; a destination reserved for bridges. */
  readonly rxRunts: number;
  readonly rxBadSource: number;
  readonly rxReserved: number;
  /** From the station, and its destination is on this port too: not sent back. */
  readonly rxOwnSegment: number;
  /** To the station and dropped: the station took none, or there is no station. */
  readonly txRefused: number;
  readonly txNoReceiver: number;
  /** Source addresses that found no room in the table. */
  readonly notLearned: number;
}

export interface SwitchPort extends NetPort {
  readonly name: string;
  readonly statistics: SwitchPortStatistics;
}

type Counters = { -readonly [Name in keyof SwitchPortStatistics]: number };

/** What a port needs of its switch. */
export interface SwitchCore {
  forward(from: SwitchPortState, frame: FrameView): void;
  flush(): void;
}

export class SwitchPortState implements SwitchPort {
  readonly name: string;
  /** Number in the address table. */
  readonly index: number;
  readonly statistics: Counters = {
    rxFrames: 0,
    rxBytes: 0,
    txFrames: 0,
    txBytes: 0,
    flooded: 0,
    rxRunts: 0,
    rxBadSource: 0,
    rxReserved: 0,
    rxOwnSegment: 0,
    txRefused: 0,
    txNoReceiver: 0,
    notLearned: 0,
  };
  /** Has frames that its receiver was not flushed for. */
  isDirty = false;
  /** Where its latest frame went. */
  readonly recent: RecentWay<SwitchPortState> = new RecentWay<SwitchPortState>();
  #core: SwitchCore | undefined;
  #receiver: FrameReceiver | undefined;

  constructor(name: string, index: number, core: SwitchCore) {
    this.name = name;
    this.index = index;
    this.#core = core;
  }

  attach(receiver: FrameReceiver | undefined): void {
    if (receiver !== undefined && this.#receiver !== undefined) {
      throw new TypeError(`Port ${this.name} has a receiver already`);
    }
    this.#receiver = receiver;
  }

  transmit(frame: FrameView): void {
    this.#core?.forward(this, frame);
  }

  flush(): void {
    this.#core?.flush();
  }

  /** Gives the station a frame; true when it took it. */
  deliver(frame: FrameView): boolean {
    const { statistics } = this;
    if (this.#receiver === undefined) {
      statistics.txNoReceiver += 1;
      return false;
    }
    if (!this.#receiver.receive(frame)) {
      statistics.txRefused += 1;
      return false;
    }
    statistics.txFrames += 1;
    statistics.txBytes += frame.size;
    return true;
  }

  flushReceiver(): void {
    this.isDirty = false;
    this.#receiver?.flush();
  }

  /** The wire is cut: nothing goes either way any more. */
  remove(): void {
    this.#core = undefined;
    this.#receiver = undefined;
    this.recent.to = undefined;
  }
}
