import { close, constants, openSync, write } from 'node:fs';
import { promisify } from 'node:util';
import {
  PCAP_FILE_HEADER,
  PCAP_LINKTYPE_ETHERNET,
  PCAP_MAGIC_NANOSECONDS,
  PCAP_PACKET_HEADER,
  PCAP_SNAPLEN_MAX,
  PCAP_VERSION_MAJOR,
  PCAP_VERSION_MINOR,
} from '@virtlab/abi/pcap';
import { NetError } from '../errors.ts';
import type { FrameSink, FrameView } from '../network.ts';

export interface PcapFileOptions {
  /** Bytes that may wait to be written, in each of two buffers. Default 1 MiB. */
  readonly bufferSize?: number;
  /** Milliseconds since 1970, with fraction. Default: the system's clock. */
  readonly now?: () => number;
  /** Called once, when a write failed: from then on frames are dropped. Never within a call of the owner. */
  readonly onFailure?: (error: Error) => void;
}

export interface PcapFileStatistics {
  /** Frames taken, and frames for which there was no room or no file any more. */
  readonly captured: number;
  readonly dropped: number;
}

/** A capture that fills up in the background. Where frames come faster than they are written, some are dropped. */
export interface PcapFile extends FrameSink, AsyncDisposable {
  readonly statistics: PcapFileStatistics;
  /** Why nothing is written any more. */
  readonly failure: Error | undefined;
  /**
   * Resolves when everything taken is in the file. Idempotent. Rejects with `NetError` `EIO` when a write had failed, or when the
   * reader of a pipe has taken nothing for a second.
   */
  close(): Promise<void>;
}

/** The smallest buffer takes the largest frame. */
const BUFFER_SIZE_MIN = 128 * 1024;

/** As fopen(3) has it for "w"; and neither open nor write waits for the reader of a pipe, which may never come. */
const OPEN_FLAGS = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NONBLOCK;

/** Until a full pipe is tried again: at first, and at most. */
const RETRY_MS_MIN = 1;
const RETRY_MS_MAX = 64;

/** How long the last bytes wait for the reader of a pipe. */
const CLOSE_WAIT_MS = 1000;

const closeFile = promisify(close);

/**
 * Creates or empties a capture file (classic pcap, Ethernet, nanoseconds), or writes to a pipe that somebody reads. Throws Node's
 * error when it cannot be opened, `ENXIO` for a pipe without a reader, and `RangeError` for bad options.
 */
export function createPcapFile(path: string, options: PcapFileOptions = {}): PcapFile {
  const { bufferSize = 1 << 20, now = systemClock, onFailure } = options;
  if (!Number.isInteger(bufferSize) || bufferSize < BUFFER_SIZE_MIN) {
    throw new RangeError(`bufferSize ${bufferSize} is not an integer of at least ${BUFFER_SIZE_MIN} bytes`);
  }
  return new BufferedPcapFile(openSync(path, OPEN_FLAGS), bufferSize, now, onFailure);
}

/** Finer than `Date.now`. */
function systemClock(): number {
  return performance.timeOrigin + performance.now();
}

/** Two buffers: frames go into one while the other is written. */
class BufferedPcapFile implements PcapFile {
  readonly statistics = { captured: 0, dropped: 0 };
  readonly #fd: number;
  readonly #now: () => number;
  readonly #onFailure: PcapFileOptions['onFailure'];
  #filling: Uint8Array;
  #fillingView: DataView;
  #size = 0;
  #writing: Uint8Array;
  #writingView: DataView;
  /** Of the buffer that is being written: where to go on, and its end; both 0 when none is. */
  #written = 0;
  #writeEnd = 0;
  #retryMs = RETRY_MS_MIN;
  /** When closing: the reader of a pipe has to take something until then. */
  #deadline = Number.POSITIVE_INFINITY;
  #failure: Error | undefined;
  #idle: PromiseWithResolvers<void> | undefined;
  #closing: Promise<void> | undefined;

  constructor(fd: number, bufferSize: number, now: () => number, onFailure: PcapFileOptions['onFailure']) {
    this.#fd = fd;
    this.#now = now;
    this.#onFailure = onFailure;
    this.#filling = new Uint8Array(bufferSize);
    this.#fillingView = new DataView(this.#filling.buffer);
    this.#writing = new Uint8Array(bufferSize);
    this.#writingView = new DataView(this.#writing.buffer);
    PCAP_FILE_HEADER.write(this.#fillingView, 0, {
      magic: PCAP_MAGIC_NANOSECONDS,
      version_major: PCAP_VERSION_MAJOR,
      version_minor: PCAP_VERSION_MINOR,
      reserved1: 0,
      reserved2: 0,
      snaplen: PCAP_SNAPLEN_MAX,
      linktype: PCAP_LINKTYPE_ETHERNET,
    });
    this.#size = PCAP_FILE_HEADER.size;
    this.#startWrite();
  }

  get failure(): Error | undefined {
    return this.#failure;
  }

  capture(frame: FrameView): void {
    const end = this.#size + PCAP_PACKET_HEADER.size + frame.size;
    const isOver = this.#failure !== undefined || this.#closing !== undefined;
    if (isOver || end > this.#filling.length) {
      this.statistics.dropped += 1;
      return;
    }
    this.statistics.captured += 1;
    this.#writeHeader(frame.size);
    frame.copy(0, frame.size, this.#filling, this.#size + PCAP_PACKET_HEADER.size);
    this.#size = end;
    if (this.#writeEnd === 0) this.#startWrite();
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #writeHeader(size: number): void {
    const { offset } = PCAP_PACKET_HEADER;
    const view = this.#fillingView;
    const at = this.#size;
    const nowMs = this.#now();
    const seconds = Math.floor(nowMs / 1000);
    view.setUint32(at + offset.ts_sec, seconds, true);
    view.setUint32(at + offset.ts_frac, Math.floor((nowMs - seconds * 1000) * 1e6), true);
    view.setUint32(at + offset.captured_len, size, true);
    view.setUint32(at + offset.original_len, size, true);
  }

  #startWrite(): void {
    const [bytes, view] = [this.#filling, this.#fillingView];
    this.#filling = this.#writing;
    this.#fillingView = this.#writingView;
    this.#writing = bytes;
    this.#writingView = view;
    this.#writeEnd = this.#size;
    this.#written = 0;
    this.#size = 0;
    this.#write();
  }

  readonly #write = (): void => {
    write(this.#fd, this.#writing, this.#written, this.#writeEnd - this.#written, null, this.#onWritten);
  };

  readonly #onWritten = (error: NodeJS.ErrnoException | null, count: number): void => {
    if (error === null) {
      this.#written += count;
      this.#retryMs = RETRY_MS_MIN;
      if (this.#closing !== undefined) this.#deadline = performance.now() + CLOSE_WAIT_MS;
    } else if (error.code === 'EAGAIN' && performance.now() < this.#deadline) {
      setTimeout(this.#write, this.#retryMs);
      this.#retryMs = Math.min(2 * this.#retryMs, RETRY_MS_MAX);
      return;
    } else {
      this.#failure = error;
      this.#onFailure?.(error);
    }
    if (error === null && this.#written < this.#writeEnd) {
      this.#write();
      return;
    }
    this.#writeEnd = 0;
    if (this.#failure === undefined && this.#size > 0) this.#startWrite();
    else this.#idle?.resolve();
  };

  async #close(): Promise<void> {
    this.#idle = Promise.withResolvers<void>();
    this.#deadline = performance.now() + CLOSE_WAIT_MS;
    if (this.#writeEnd > 0) await this.#idle.promise;
    await closeFile(this.#fd);
    if (this.#failure !== undefined) {
      throw new NetError('EIO', `The capture is not complete: ${this.#failure.message}`, {
        cause: this.#failure,
      });
    }
  }
}
