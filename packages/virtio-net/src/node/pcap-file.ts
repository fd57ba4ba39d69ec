import { close, openSync, write } from 'node:fs';
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
  /** Resolves when everything taken is in the file. Idempotent. Rejects with `NetError` `EIO` when a write had failed. */
  close(): Promise<void>;
}

/** The smallest buffer takes the largest frame. */
const BUFFER_SIZE_MIN = 128 * 1024;

const closeFile = promisify(close);

/**
 * Creates or empties a capture file (classic pcap, Ethernet, nanoseconds). Throws Node's error when it cannot be opened,
 * and `RangeError` for bad options.
 */
export function createPcapFile(path: string, options: PcapFileOptions = {}): PcapFile {
  const { bufferSize = 1 << 20, now = systemClock } = options;
  if (!Number.isInteger(bufferSize) || bufferSize < BUFFER_SIZE_MIN) {
    throw new RangeError(`bufferSize ${bufferSize} is not an integer of at least ${BUFFER_SIZE_MIN} bytes`);
  }
  return new BufferedPcapFile(openSync(path, 'w'), bufferSize, now);
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
  #filling: Uint8Array;
  #fillingView: DataView;
  #size = 0;
  #writing: Uint8Array;
  #writingView: DataView;
  /** Of the buffer that is being written: where to go on, and its end; both 0 when none is. */
  #written = 0;
  #writeEnd = 0;
  #failure: Error | undefined;
  #idle: PromiseWithResolvers<void> | undefined;
  #closing: Promise<void> | undefined;

  constructor(fd: number, bufferSize: number, now: () => number) {
    this.#fd = fd;
    this.#now = now;
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

  #write(): void {
    write(this.#fd, this.#writing, this.#written, this.#writeEnd - this.#written, null, this.#onWritten);
  }

  readonly #onWritten = (error: Error | null, count: number): void => {
    if (error !== null) this.#failure = error;
    else this.#written += count;
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
    if (this.#writeEnd > 0) await this.#idle.promise;
    await closeFile(this.#fd);
    if (this.#failure !== undefined) {
      throw new NetError('EIO', `The capture is not complete: ${this.#failure.message}`, {
        cause: this.#failure,
      });
    }
  }
}
