import * as ctrl from '@virtlab/abi/virtio-net-ctrl';
import type { HashConfig, RssConfig } from './device-rss.ts';
import { FlowTable, flowHash } from './flow-table.ts';
import type { FrameView } from './network.ts';
import { HEADERS_SIZE_MAX, PacketHeaders } from './packet-headers.ts';
import { ReceiveHash } from './receive-hash.ts';

/** Which pair a frame is for (§5.1.9.5.5 to §5.1.9.5.7), and the hash that is reported with it. */
export class ReceiveSteering {
  /** Of the frame looked at last. */
  pair = 0;
  hash = 0;
  report: number = ctrl.VIRTIO_NET_HASH_REPORT_NONE;
  /** Pairs in use. */
  #pairCount = 1;
  #rss: RssConfig | undefined;
  #receiveHash: ReceiveHash | undefined;
  readonly #flows = new FlowTable();
  readonly #bytes = new Uint8Array(HEADERS_SIZE_MAX);
  readonly #headers = new PacketHeaders();

  /** Whether there is nothing to choose or to hash: the first pair. */
  get isTrivial(): boolean {
    return this.#pairCount === 1 && this.#rss === undefined && this.#receiveHash === undefined;
  }

  get pairCount(): number {
    return this.#pairCount;
  }

  /** Automatic steering, which also ends RSS. */
  setPairs(count: number): void {
    this.#pairCount = count;
    this.#rss = undefined;
    this.#flows.clear();
  }

  setRss(config: RssConfig): void {
    this.#rss = config;
    this.setHash(config);
  }

  /** No types: nothing is hashed. */
  setHash({ hashTypes, key }: HashConfig): void {
    this.#receiveHash = hashTypes === 0 ? undefined : new ReceiveHash(hashTypes, key);
  }

  look(frame: FrameView): void {
    this.pair = 0;
    this.hash = 0;
    this.report = ctrl.VIRTIO_NET_HASH_REPORT_NONE;
    const rss = this.#rss;
    const receiveHash = this.#receiveHash;
    if (receiveHash === undefined && this.#pairCount === 1) {
      if (rss !== undefined) this.pair = rss.unclassified;
      return;
    }
    this.#parse(frame);
    if (receiveHash !== undefined) {
      this.hash = receiveHash.hash(this.#bytes, this.#headers);
      this.report = receiveHash.report;
    }
    if (rss === undefined) {
      this.pair = this.#flows.find(flowHash(this.#bytes, this.#headers), this.#pairCount);
    } else if (this.report === ctrl.VIRTIO_NET_HASH_REPORT_NONE) {
      this.pair = rss.unclassified;
    } else {
      this.pair = rss.table[this.hash & (rss.table.length - 1)]!;
    }
  }

  /** The driver sent a frame from this pair: that is where it wants the answers. */
  learn(frame: FrameView, pair: number): void {
    if (this.#pairCount === 1 || this.#rss !== undefined || pair >= this.#pairCount) return;
    this.#parse(frame);
    this.#flows.learn(flowHash(this.#bytes, this.#headers), pair);
  }

  #parse(frame: FrameView): void {
    const size = Math.min(frame.size, HEADERS_SIZE_MAX);
    frame.copy(0, size, this.#bytes, 0);
    this.#headers.parse(this.#bytes, size);
  }
}
