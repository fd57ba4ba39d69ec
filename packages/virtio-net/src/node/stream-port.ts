import { ETHERNET_HEADER_SIZE } from '@virtlab/abi/ethernet';
import { LinuxError, type UnixStream } from '@virtlab/linux';
import { isUnfinished } from '../frame-offload.ts';
import { FRAME_LENGTH_SIZE, FrameStreamReader, STREAM_FRAME_SIZE_MAX } from '../frame-stream.ts';
import { BytesFrame } from '../frame-views.ts';
import type { FrameReceiver, FrameView, NetPort } from '../network.ts';
import { type FinishedFrames, SoftwareOffload } from '../software-offload.ts';

/** Counters since creation: rx is from the stream, tx to it. */
export interface StreamPortStatistics {
  readonly rxFrames: number;
  readonly rxBytes: number;
  readonly txFrames: number;
  readonly txBytes: number;
  /** Shorter than an Ethernet header, or the receiver did not take it. */
  readonly rxDropped: number;
  /** The other side does not read as fast as frames come, or the frame is longer than it takes. */
  readonly txDropped: number;
}

/** The end of a wire whose other end is a stream: QEMU's `-netdev stream`, passt, another switch. */
export interface StreamPort extends NetPort, Disposable {
  readonly statistics: StreamPortStatistics;
  /** At most one handler, called once: the stream ended, and why, if not by its peer in order. */
  onEnd(handler: (reason: string | undefined) => void): void;
  /** Ends the stream. */
  [Symbol.dispose](): void;
}

/** Frames of a batch leave together, up to this many bytes. */
const BATCH_SIZE = 128 * 1024;

/**
 * Owns the stream. Frames are finished before they leave, since the stream carries no packet headers; a batch leaves in one system
 * call. What does not fit into the stream's queue is dropped.
 */
export function createStreamPort(stream: UnixStream): StreamPort {
  return new FramePort(stream);
}

class FramePort implements StreamPort, FinishedFrames {
  readonly statistics = { rxFrames: 0, rxBytes: 0, txFrames: 0, txBytes: 0, rxDropped: 0, txDropped: 0 };
  readonly #stream: UnixStream;
  readonly #reader = new FrameStreamReader();
  readonly #frame = new BytesFrame();
  readonly #batch = new Uint8Array(BATCH_SIZE);
  readonly #batchView = new DataView(this.#batch.buffer);
  #batchSize = 0;
  #batchFrames = 0;
  #software: SoftwareOffload | undefined;
  #receiver: FrameReceiver | undefined;
  #onEnd: ((reason: string | undefined) => void) | undefined;
  #problem: string | undefined;

  constructor(stream: UnixStream) {
    this.#stream = stream;
    stream.onClose(({ error }) => this.#onEnd?.(this.#problem ?? error?.message));
    stream.onData((bytes) => this.#take(bytes));
  }

  attach(receiver: FrameReceiver | undefined): void {
    if (receiver !== undefined && this.#receiver !== undefined) {
      throw new TypeError('The stream has a receiver already');
    }
    this.#receiver = receiver;
  }

  onEnd(handler: (reason: string | undefined) => void): void {
    this.#onEnd = handler;
  }

  transmit(frame: FrameView): void {
    if (!isUnfinished(frame.offload)) {
      this.take(frame);
      return;
    }
    this.#software ??= new SoftwareOffload();
    if (!this.#software.finish(frame, 0, this)) this.statistics.txDropped += 1;
  }

  /** Part of `transmit`: a frame with nothing left to do. */
  take(frame: FrameView): boolean {
    const { size } = frame;
    if (size > STREAM_FRAME_SIZE_MAX) return false;
    if (this.#batchSize + FRAME_LENGTH_SIZE + size > BATCH_SIZE) this.flush();
    this.#batchView.setUint32(this.#batchSize, size);
    frame.copy(0, size, this.#batch, this.#batchSize + FRAME_LENGTH_SIZE);
    this.#batchSize += FRAME_LENGTH_SIZE + size;
    this.#batchFrames += 1;
    return true;
  }

  flush(): void {
    const [size, count] = [this.#batchSize, this.#batchFrames];
    if (size === 0) return;
    this.#batchSize = 0;
    this.#batchFrames = 0;
    try {
      this.#stream.send(this.#batch.subarray(0, size));
    } catch (error) {
      if (!(error instanceof LinuxError)) throw error;
      this.statistics.txDropped += count;
      return;
    }
    this.statistics.txFrames += count;
    this.statistics.txBytes += size - count * FRAME_LENGTH_SIZE;
  }

  [Symbol.dispose](): void {
    this.#receiver = undefined;
    this.#stream.close();
  }

  readonly #pass = (bytes: Uint8Array, at: number, size: number): void => {
    const { statistics } = this;
    const isTaken =
      size >= ETHERNET_HEADER_SIZE && this.#receiver?.receive(this.#frame.set(bytes, at, size)) === true;
    if (!isTaken) {
      statistics.rxDropped += 1;
      return;
    }
    statistics.rxFrames += 1;
    statistics.rxBytes += size;
  };

  #take(bytes: Uint8Array): void {
    const isStream = this.#reader.push(bytes, this.#pass);
    this.#receiver?.flush();
    if (isStream) return;
    this.#problem = `no stream of frames: one of more than ${STREAM_FRAME_SIZE_MAX} bytes`;
    this.#stream.close();
  }
}
