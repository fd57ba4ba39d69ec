import {
  XENSTORE_PAYLOAD_MAX,
  XS_ERROR,
  XS_TRANSACTION_START,
  XS_UNWATCH,
  XS_WATCH,
  XS_WATCH_EVENT,
} from '@virtlab/abi/xs-wire';
import { byteString } from '../byte-string.ts';
import type { ByteStream } from '../contract.ts';
import { XenstorePacketParser, encodePacket } from '../wire.ts';

/** What a client got. */
export interface SoakCounts {
  requestCount: number;
  replyCount: number;
  errorCount: number;
  eventCount: number;
  abortedCount: number;
}

/** A client without manners: it sends what it is told, remembers what it holds open, and may stop reading. */
export class SoakClient {
  readonly domid: number;
  /** Ids of transactions that were started and not ended. */
  readonly transactionIds: number[] = [];
  /** `path|token` of watches that were asked for. */
  readonly watches: string[] = [];
  isClosed = false;
  isReading = true;
  readonly #stream: ByteStream;
  readonly #counts: SoakCounts;
  readonly #parser = new XenstorePacketParser();
  /** What the stream did not take; nothing else is sent before. */
  #rest: Uint8Array | undefined;

  constructor(domid: number, stream: ByteStream, counts: SoakCounts) {
    this.domid = domid;
    this.#stream = stream;
    this.#counts = counts;
    stream.attach({
      onData: (bytes) => this.#receive(bytes),
      onDrain: () => this.#push(undefined),
      onClose: () => {
        this.isClosed = true;
      },
    });
  }

  request(type: number, txId: number, payload: string): void {
    if (this.isClosed || this.#rest !== undefined) return;
    this.#counts.requestCount += 1;
    this.#push(encodePacket(type, 0, txId, payload.slice(0, XENSTORE_PAYLOAD_MAX)));
  }

  watch(path: string, token: string): void {
    this.watches.push(`${path}\0${token}\0`);
    this.request(XS_WATCH, 0, `${path}\0${token}\0`);
  }

  unwatch(index: number): void {
    const [payload] = this.watches.splice(index, 1);
    if (payload !== undefined) this.request(XS_UNWATCH, 0, payload);
  }

  /** Any bytes: the beginning of a message that never ends, or none at all. */
  sendRaw(bytes: Uint8Array): void {
    if (this.isClosed || this.#rest !== undefined) return;
    this.#counts.abortedCount += 1;
    this.#push(bytes);
  }

  stopReading(): void {
    this.isReading = false;
    this.#stream.pause();
  }

  resumeReading(): void {
    this.isReading = true;
    this.#stream.resume();
  }

  close(): void {
    this.isClosed = true;
    this.#stream.close();
  }

  #push(more: Uint8Array | undefined): void {
    const bytes = this.#rest ?? more;
    if (bytes === undefined || this.isClosed) return;
    const taken = this.#stream.send(bytes);
    this.#rest = taken < bytes.length ? bytes.subarray(taken) : undefined;
  }

  #receive(bytes: Uint8Array): void {
    this.#parser.push(bytes);
    for (;;) {
      const parsed = this.#parser.next();
      if (parsed.status === 'error') throw new Error(`The server broke the protocol: ${parsed.reason}`);
      if (parsed.status === 'need') return;
      const { type, payload } = parsed.packet;
      if (type === XS_WATCH_EVENT) {
        this.#counts.eventCount += 1;
        continue;
      }
      this.#counts.replyCount += 1;
      if (type === XS_ERROR) this.#counts.errorCount += 1;
      if (type === XS_TRANSACTION_START)
        this.transactionIds.push(Number(byteString(payload, 0, payload.length - 1)));
    }
  }
}
