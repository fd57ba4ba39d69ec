import { ETHERNET_ADDRESS_SIZE, ETHERNET_GROUP_BIT, ETHERNET_HEADER_SIZE } from '@virtlab/abi/ethernet';
import { type AioContext, type BottomHalf, createScheduler } from '@virtlab/aio';
import { FrameQueue } from './frame-queue.ts';
import { BytesFrame } from './frame-views.ts';
import type { LearningSwitch } from './learning-switch.ts';
import type { FrameReceiver, FrameView } from './network.ts';
import { isUnfinished } from './frame-offload.ts';
import { isStationAddress } from './protocol.ts';
import { type FinishedFrames, SoftwareOffload } from './software-offload.ts';
import type { SwitchPort, SwitchPortStatistics } from './switch-port.ts';

export interface HostPortOptions {
  /** Takes only frames to this address and to groups. Default: takes all that the switch sends. */
  readonly mac?: Uint8Array;
  /** Where a turn ends; see `send`. Default: a macro-task of the JavaScript engine. */
  readonly aio?: AioContext;
  /** Frames that `send` takes in one turn of the loop. Default 256. */
  readonly burstCount?: number;
  /** Bytes of frames that may wait for the end of a batch. Default 1 MiB. */
  readonly queueSize?: number;
}

/** A station of this process on a switch, without a virtio device. */
export interface HostPort extends Disposable {
  readonly statistics: SwitchPortStatistics;
  /**
   * Sends a frame now. False when this turn of the loop has sent enough (`onWritable` follows in a later one), so that
   * a busy station leaves the loop to others. Throws `RangeError` for what is shorter than an Ethernet header.
   */
  send(frame: Uint8Array): boolean;
  /** Ends a batch: receivers are told. */
  kick(): void;
  /** At most one handler; without one frames are dropped. The frame is valid during the call. */
  onFrame(handler: ((frame: Uint8Array) => void) | undefined): void;
  onWritable(handler: (() => void) | undefined): void;
  /** Leaves the switch. */
  [Symbol.dispose](): void;
}

/** Adds a port to the switch. Throws `TypeError` when there is one of that name, `RangeError` for bad options. */
export function createHostPort(
  network: LearningSwitch,
  name: string,
  options: HostPortOptions = {},
): HostPort {
  const { mac, aio, burstCount = 256, queueSize = 1 << 20 } = options;
  if (mac !== undefined && !isStationAddress(mac)) {
    throw new RangeError(`mac ${mac.join(':')} is not the address of a station`);
  }
  if (!Number.isInteger(burstCount) || burstCount < 1) {
    throw new RangeError(`burstCount ${burstCount} is not a positive integer`);
  }
  return new SwitchHostPort(network, name, mac?.slice(), burstCount, new FrameQueue(queueSize), aio);
}

class SwitchHostPort implements HostPort, FrameReceiver, FinishedFrames {
  readonly #network: LearningSwitch;
  readonly #port: SwitchPort;
  readonly #mac: Uint8Array | undefined;
  readonly #destination = new Uint8Array(ETHERNET_ADDRESS_SIZE);
  readonly #outgoing = new BytesFrame();
  readonly #incoming: FrameQueue;
  readonly #burstCount: number;
  readonly #turnEnds: Pick<BottomHalf, 'schedule' | 'cancel'>;
  #software: SoftwareOffload | undefined;
  #credit: number;
  #isBlocked = false;
  #isDelivering = false;
  #isDisposed = false;
  #frameHandler: ((frame: Uint8Array) => void) | undefined;
  #writableHandler: (() => void) | undefined;

  constructor(
    network: LearningSwitch,
    name: string,
    mac: Uint8Array | undefined,
    burstCount: number,
    incoming: FrameQueue,
    aio: AioContext | undefined,
  ) {
    this.#network = network;
    this.#mac = mac;
    this.#burstCount = burstCount;
    this.#credit = burstCount;
    this.#incoming = incoming;
    const run = (): void => this.#endTurn();
    this.#turnEnds = aio?.createBottomHalf(run) ?? macroTask(run);
    this.#port = network.addPort(name);
    this.#port.attach(this);
  }

  get statistics(): SwitchPortStatistics {
    return this.#port.statistics;
  }

  send(frame: Uint8Array): boolean {
    if (frame.length < ETHERNET_HEADER_SIZE) {
      throw new RangeError(`A frame of ${frame.length} bytes has no Ethernet header`);
    }
    if (this.#credit === 0) {
      this.#isBlocked = true;
      return false;
    }
    if (this.#credit === this.#burstCount) this.#turnEnds.schedule();
    this.#credit -= 1;
    this.#port.transmit(this.#outgoing.set(frame));
    return true;
  }

  kick(): void {
    this.#port.flush();
  }

  onFrame(handler: ((frame: Uint8Array) => void) | undefined): void {
    this.#frameHandler = handler;
  }

  onWritable(handler: (() => void) | undefined): void {
    this.#writableHandler = handler;
  }

  receive(frame: FrameView): boolean {
    if (this.#frameHandler === undefined) return false;
    // What is for others came over the wire all the same; it goes no further.
    if (!this.#isForUs(frame)) return true;
    if (!isUnfinished(frame.offload)) return this.#incoming.add(frame);
    this.#software ??= new SoftwareOffload();
    return this.#software.finish(frame, 0, this);
  }

  take(frame: FrameView): boolean {
    return this.#incoming.add(frame);
  }

  /**
   * The frames of a batch are handed over at its end, when the sender is done with its rings: the handler may answer at once.
   * What comes in meanwhile is handed over here too, until the queue is full.
   */
  flush(): void {
    if (this.#isDelivering) return;
    this.#isDelivering = true;
    try {
      while (!this.#incoming.isEmpty) this.#frameHandler?.(this.#incoming.take());
    } finally {
      this.#isDelivering = false;
    }
    this.#incoming.recycle();
  }

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#frameHandler = undefined;
    this.#writableHandler = undefined;
    this.#turnEnds.cancel();
    this.#network.removePort(this.#port.name);
  }

  #isForUs(frame: FrameView): boolean {
    const own = this.#mac;
    if (own === undefined) return true;
    let bytes: Uint8Array = this.#destination;
    let at = 0;
    if (frame.memory === undefined) {
      frame.copy(0, bytes.length, bytes, 0);
    } else {
      bytes = frame.memory.u8;
      at = frame.start ?? 0;
    }
    const first = bytes[at]!;
    if ((first & ETHERNET_GROUP_BIT) !== 0) return true;
    if (first !== own[0]) return false;
    for (let index = 1; index < own.length; index += 1) if (own[index] !== bytes[at + index]) return false;
    return true;
  }

  #endTurn(): void {
    this.#credit = this.#burstCount;
    if (!this.#isBlocked) return;
    this.#isBlocked = false;
    this.#writableHandler?.();
  }
}

/** For a program without an AioContext. A task that was cancelled finds nothing to do. */
function macroTask(run: () => void): Pick<BottomHalf, 'schedule' | 'cancel'> {
  const scheduler = createScheduler();
  let isCancelled = false;
  return {
    schedule: () => scheduler.schedule(() => void (isCancelled || run())),
    cancel: () => {
      isCancelled = true;
    },
  };
}
