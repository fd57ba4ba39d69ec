import type { NetDriver } from '@virtlab/virtio-net';
import { type RunResult, elapsedNs } from '../contender.ts';
import { BATCH_COUNT, CARD_MAC, FRAME_SIZE_MIN, FloodFrame, STATION_MAC, readNumber } from './frames.ts';

export interface Flood {
  /** Bytes of a frame, without FCS. */
  readonly size: number;
  readonly count: number;
}

/** Sends frames as fast as the card takes them, and waits until the station says that it has them all. */
export class FloodRunner {
  readonly #net: NetDriver;
  readonly #end = new FloodFrame(FRAME_SIZE_MIN, CARD_MAC, STATION_MAC);

  constructor(net: NetDriver) {
    this.#net = net;
  }

  async run({ size, count }: Flood): Promise<RunResult> {
    const net = this.#net;
    const answered = Promise.withResolvers<number>();
    net.onFrame((frame) => answered.resolve(readNumber(frame)));
    const before = net.statistics;
    const start = performance.now();
    await this.#send(new FloodFrame(size, CARD_MAC, STATION_MAC), count);
    const received = await answered.promise;
    const elapsed = elapsedNs(start);
    const after = net.statistics;
    if (received !== count) throw new Error(`${count} frames were sent, and not all came in order`);
    const doorbells = { kicks: after.kicks - before.kicks, calls: after.calls - before.calls };
    return { operationCount: count, elapsedNs: elapsed, doorbells };
  }

  async #send(frame: FloodFrame, count: number): Promise<void> {
    const net = this.#net;
    const done = Promise.withResolvers<void>();
    let sent = 0;
    const fill = (): void => {
      for (; sent < count; sent += 1) {
        if (!net.send(frame.set(sent, false))) return;
        if (sent % BATCH_COUNT === BATCH_COUNT - 1) net.kick();
      }
      if (!net.send(this.#end.set(count, true))) return;
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
}
