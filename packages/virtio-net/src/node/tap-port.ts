import type { AioContext, BottomHalf, Timer } from '@virtlab/aio';
import {
  type ReadableWatch,
  TAP_CLOSED,
  TAP_EMPTY,
  TAP_FRAME_SIZE_MAX,
  TAP_HEADER_SIZE,
  TapDevice,
  type TapOptions,
  watchReadable,
} from '@virtlab/linux';
import {
  ACCEPT_ALL,
  ACCEPT_CSUM,
  ACCEPT_ECN,
  ACCEPT_TSO4,
  ACCEPT_TSO6,
  ACCEPT_USO,
  OffloadWords,
  writeOffload,
} from '../frame-offload.ts';
import { BytesFrame } from '../frame-views.ts';
import type { FrameReceiver, FrameView, NetPort } from '../network.ts';
import { OffloadCheck } from '../offload-check.ts';

export interface TapPortOptions extends TapOptions {
  readonly aio: AioContext;
  /** Frames taken in one go; then the rest of the loop has its turn. Default 64. */
  readonly burst?: number;
}

/** Counters since creation, as the interface sees the directions: tx is what the kernel sends. */
export interface TapPortStatistics {
  readonly txFrames: number;
  readonly txBytes: number;
  readonly rxFrames: number;
  readonly rxBytes: number;
  /** The kernel's header did not fit its frame, or there was no receiver. */
  readonly txDropped: number;
  /** The kernel did not take it: interface down, or no memory. */
  readonly rxDropped: number;
  /** Times that frames were held back in the interface's queue because the receiver had no room. */
  readonly pauses: number;
}

/** A receiver that is full says when it is not any more, mostly; where that is missed we look again. */
const RETRY_MS = 1;

/** The end of a wire in the network stack of the kernel. */
export interface TapPort extends NetPort, Disposable {
  readonly name: string;
  readonly statistics: TapPortStatistics;
  /** The interface was deleted. */
  readonly isClosed: boolean;
  /** At most one handler, called once: somebody deleted the interface. */
  onEnd(handler: () => void): void;
  /** Takes the interface away, if it is not somebody's else. */
  [Symbol.dispose](): void;
}

/**
 * Opens a TAP interface, or makes one, see `TapDevice.open` for options and errors. Frames cross with their virtio-net
 * headers: what the kernel left unfinished goes to the receiver so if it wants it, and the kernel finishes what we give it.
 */
export function createTapPort(options: TapPortOptions): TapPort {
  const { burst = 64 } = options;
  if (!Number.isInteger(burst) || burst < 1) throw new RangeError(`burst ${burst} is not a positive integer`);
  return new KernelTapPort(TapDevice.open(options), options.aio, burst);
}

class KernelTapPort implements TapPort {
  readonly name: string;
  readonly statistics = {
    txFrames: 0,
    txBytes: 0,
    rxFrames: 0,
    rxBytes: 0,
    txDropped: 0,
    rxDropped: 0,
    pauses: 0,
  };
  readonly #tap: TapDevice;
  readonly #burst: number;
  readonly #again: BottomHalf;
  readonly #retry: Timer;
  readonly #incoming = new Uint8Array(TAP_HEADER_SIZE + TAP_FRAME_SIZE_MAX);
  readonly #outgoing = new Uint8Array(TAP_HEADER_SIZE + TAP_FRAME_SIZE_MAX);
  readonly #frame = new BytesFrame();
  readonly #offload = new OffloadWords();
  readonly #check = new OffloadCheck();
  /** Bytes in `#incoming` of a frame that found no room; 0 if none. */
  #heldSize = 0;
  #watch: ReadableWatch | undefined;
  #receiver: FrameReceiver | undefined;
  #isClosed = false;
  #onEnd: (() => void) | undefined;

  constructor(tap: TapDevice, aio: AioContext, burst: number) {
    this.name = tap.name;
    this.#tap = tap;
    this.#burst = burst;
    this.#again = aio.createBottomHalf(this.#run);
    this.#retry = aio.createTimer(this.#run);
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  attach(receiver: FrameReceiver | undefined): void {
    if (receiver !== undefined && this.#receiver !== undefined) {
      throw new TypeError(`TAP interface ${this.name} has a receiver already`);
    }
    this.#receiver = receiver;
    if (receiver === undefined) this.#stop();
    else this.#again.schedule();
  }

  onEnd(handler: () => void): void {
    this.#onEnd = handler;
  }

  transmit(frame: FrameView): void {
    const { size } = frame;
    const { statistics } = this;
    const outgoing = this.#outgoing;
    writeOffload(frame.offload, outgoing, 0);
    if (size <= TAP_FRAME_SIZE_MAX) frame.copy(0, size, outgoing, TAP_HEADER_SIZE);
    if (size > TAP_FRAME_SIZE_MAX || !this.#tap.write(outgoing, TAP_HEADER_SIZE + size)) {
      statistics.rxDropped += 1;
      return;
    }
    statistics.rxFrames += 1;
    statistics.rxBytes += size;
  }

  flush(): void {}

  expect(accept: number): void {
    if (this.#isClosed) return;
    const has = (bit: number): boolean => (accept & bit) !== 0;
    this.#tap.setOffloads({
      checksum: has(ACCEPT_CSUM),
      tso4: has(ACCEPT_TSO4),
      tso6: has(ACCEPT_TSO6),
      ecn: has(ACCEPT_ECN),
      uso: has(ACCEPT_USO),
    });
  }

  resume(): void {
    if (this.#watch === undefined && this.#receiver !== undefined) this.#again.schedule();
  }

  [Symbol.dispose](): void {
    this.#receiver = undefined;
    this.#stop();
    this.#again[Symbol.dispose]();
    this.#retry[Symbol.dispose]();
    this.#isClosed = true;
    this.#tap.close();
  }

  /** Reads until there is nothing, the receiver is full, or it was enough for one turn. */
  readonly #run = (): void => {
    const receiver = this.#receiver;
    if (receiver === undefined || this.#isClosed) return;
    this.#retry.disarm();
    let taken = 0;
    let size = 0;
    while (taken < this.#burst) {
      if (receiver.isReady?.() === false) {
        this.#pause();
        break;
      }
      size = this.#heldSize > 0 ? this.#heldSize : this.#tap.read(this.#incoming);
      if (size < 0) break;
      this.#heldSize = 0;
      if (!this.#pass(receiver, size) && receiver.isReady?.() === false) this.#heldSize = size;
      else taken += 1;
    }
    if (taken > 0) receiver.flush();
    if (size === TAP_CLOSED) this.#close();
    else if (size === TAP_EMPTY) this.#watch ??= watchReadable(this.#tap.fd, this.#run);
    else if (taken === this.#burst) this.#yield();
  };

  /** False when the receiver did not take it. */
  #pass(receiver: FrameReceiver, size: number): boolean {
    const { statistics } = this;
    const frameSize = size - TAP_HEADER_SIZE;
    const offload = this.#offload.read(this.#incoming, 0);
    const frame = this.#frame.set(this.#incoming, TAP_HEADER_SIZE, Math.max(0, frameSize), offload);
    if (frameSize < 0 || !this.#check.pass(offload, frame, ACCEPT_ALL)) {
      statistics.txDropped += 1;
      return true;
    }
    if (!receiver.receive(frame)) return false;
    statistics.txFrames += 1;
    statistics.txBytes += frameSize;
    return true;
  }

  #pause(): void {
    this.statistics.pauses += 1;
    this.#stop();
    this.#retry.arm(RETRY_MS);
  }

  /** The watch reports again by itself, after others had their turn. */
  #yield(): void {
    if (this.#watch === undefined) this.#again.schedule();
  }

  #stop(): void {
    this.#again.cancel();
    this.#retry.disarm();
    this.#watch?.close();
    this.#watch = undefined;
  }

  #close(): void {
    this.#stop();
    this.#isClosed = true;
    this.#onEnd?.();
  }
}
