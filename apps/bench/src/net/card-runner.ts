import type { NetDriver } from '@virtlab/virtio-net';
import { type RunResult, elapsedNs } from '../contender.ts';
import type { DriverVariant } from '../lab/driver-variant.ts';
import {
  BATCH_COUNT,
  CARD_MAC,
  FRAME_ACK,
  FRAME_END,
  FRAME_SIZE_MIN,
  FRAME_START,
  FRAME_TALLY,
  FloodFrame,
  FloodReceiver,
  STATION_MAC,
  readNumber,
} from './frames.ts';
import { SegmentFrame } from './segments.ts';

/** What a driver of a card is to be like. */
export interface CardVariant extends DriverVariant {
  /** Receive buffers are merged (VIRTIO_NET_F_MRG_RXBUF). Default true. */
  readonly isMerging?: boolean;
  /** Checksums and segmentation are left to the device. Default false: the driver does them. */
  readonly isOffloading?: boolean;
}

/** Work for a card: `count` frames of `size` bytes without FCS to the station or from it, or segments with `size` bytes of payload. */
export interface CardWork {
  readonly variant?: CardVariant | undefined;
  readonly kind: 'send' | 'receive' | 'segments';
  readonly size: number;
  /** TCP streams, by turns. Default 1. */
  readonly flowCount?: number | undefined;
  readonly count: number;
}

/** Frames between two reports to a station that sends. */
const REPORT_PERIOD = 32;

/** Has a card send or receive as fast as it can, and waits until everything has arrived where it should. */
export class CardRunner {
  readonly #net: NetDriver;
  readonly #toStation = new FloodFrame(FRAME_SIZE_MIN, CARD_MAC, STATION_MAC);

  constructor(net: NetDriver) {
    this.#net = net;
  }

  async run(work: CardWork): Promise<RunResult> {
    const net = this.#net;
    const before = net.statistics;
    const start = performance.now();
    const [came, expected] = await this.#move(work);
    const elapsed = elapsedNs(start);
    const after = net.statistics;
    if (came !== expected) throw new Error(`${expected} were sent, and not all came in order (${came})`);
    const doorbells = { kicks: after.kicks - before.kicks, calls: after.calls - before.calls };
    return { operationCount: work.count, elapsedNs: elapsed, doorbells };
  }

  /** What came, and what should have: frames or bytes. */
  async #move({ kind, size, count, flowCount = 1 }: CardWork): Promise<readonly [number, number]> {
    switch (kind) {
      case 'send': {
        const frame = new FloodFrame(size, CARD_MAC, STATION_MAC);
        const answered = this.#answer();
        await this.#send(count, FRAME_END, count, (number) => this.#net.send(frame.set(number)));
        return [await answered, count];
      }
      case 'segments': {
        const flows = Array.from({ length: flowCount }, (_, flow) => new SegmentFrame(size, flow));
        const bytes = count * size;
        const answered = this.#answer();
        let pending: Uint8Array | undefined;
        await this.#send(count, FRAME_TALLY, bytes, (number) => {
          const flow = flows[number % flowCount]!;
          pending ??= flow.next();
          if (!this.#net.send(pending, flow.offload)) return false;
          pending = undefined;
          return true;
        });
        return [await answered, bytes];
      }
      case 'receive':
        return [await this.#receive(size, count), count];
    }
  }

  #answer(): Promise<number> {
    const answered = Promise.withResolvers<number>();
    this.#net.onFrame((frame) => answered.resolve(readNumber(frame)));
    return answered.promise;
  }

  /** Sends so many, and then a frame with a mark and a number. */
  async #send(
    count: number,
    mark: number,
    total: number,
    sendOne: (number: number) => boolean,
  ): Promise<void> {
    const net = this.#net;
    const done = Promise.withResolvers<void>();
    let sent = 0;
    const fill = (): void => {
      for (; sent < count; sent += 1) {
        if (!sendOne(sent)) return;
        if (sent % BATCH_COUNT === BATCH_COUNT - 1) net.kick();
      }
      if (!net.send(this.#toStation.set(total, mark))) return;
      net.kick();
      done.resolve();
    };
    net.onWritable(() => {
      if (net.failure === undefined) fill();
      else done.reject(new Error(net.failure));
    });
    fill();
    await done.promise;
    net.onWritable(undefined);
  }

  async #receive(size: number, count: number): Promise<number> {
    const net = this.#net;
    const done = Promise.withResolvers<number>();
    const receiver = new FloodReceiver(done.resolve);
    let received = 0;
    net.onFrame((frame) => {
      receiver.receive(frame);
      received += 1;
      if (received % REPORT_PERIOD !== 0 || received >= count) return;
      net.send(this.#toStation.set(received, FRAME_ACK));
      net.kick();
    });
    net.send(this.#toStation.set(count, FRAME_START, size));
    net.kick();
    const came = await done.promise;
    net.onFrame(undefined);
    return came;
  }
}
