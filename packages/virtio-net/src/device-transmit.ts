import type { BottomHalf, Timer } from '@virtlab/aio';
import type { DeviceActivation } from '@virtlab/virtio';
import type { DescriptorChain } from '@virtlab/vring';
import { NotificationCoalescer } from './notification-coalescer.ts';
import { FIRST_PORTION, nextPortion } from './publish-portions.ts';

/** When a device looks at packets to send (QEMU's `tx=bh` and `tx=timer`). */
export interface TransmitMode {
  /**
   * `kick`: at once, in the kick or poll that found them. `bh`: in a bottom half of the same turn of the loop. `timer`:
   * after `timerNs`; what comes until then is one batch.
   */
  readonly mode: 'kick' | 'bh' | 'timer';
  readonly timerNs: number;
  /** Packets in one go; then the rest of the loop has its turn. */
  readonly burst: number;
}

/** What the device does with packets. */
export interface PacketSink {
  /** False when the framing is broken: the device is failing and must not touch the queue again. */
  transmit(chain: DescriptorChain, pair: number): boolean;
  /** A batch ends. */
  flushPort(): void;
}

const NS_IN_MS = 1e6;

/** A transmit queue of a live device (§5.1.9.2). */
export class DeviceTransmitter {
  readonly coalescer: NotificationCoalescer;
  readonly #activation: DeviceActivation;
  readonly #queueIndex: number;
  readonly #pair: number;
  readonly #mode: TransmitMode;
  readonly #sink: PacketSink;
  readonly #later: BottomHalf | undefined;
  readonly #mute: BottomHalf | undefined;
  readonly #timer: Timer | undefined;

  constructor(activation: DeviceActivation, queueIndex: number, mode: TransmitMode, sink: PacketSink) {
    this.#activation = activation;
    this.#queueIndex = queueIndex;
    this.#pair = queueIndex >>> 1;
    this.#mode = mode;
    this.#sink = sink;
    const { aio } = activation;
    if (mode.mode !== 'kick') this.#later = aio.createBottomHalf(() => this.#runLater());
    if (mode.mode === 'timer') {
      this.#mute = aio.createBottomHalf(() => activation.queues[queueIndex]?.disableKicks());
      this.#timer = aio.createTimer(() => this.#runLater());
    }
    this.coalescer = new NotificationCoalescer(aio, () => activation.complete(queueIndex));
  }

  /** There are packets, or perhaps there are. */
  look(): void {
    if (this.#timer !== undefined) {
      if (this.#timer.armed || this.#activation.queues[this.#queueIndex]?.hasAvailable() !== true) return;
      this.#timer.arm(this.#mode.timerNs / NS_IN_MS);
      // The host asks for kicks again after this; until the timer fires they are of no use.
      this.#mute?.schedule();
    } else if (this.#later === undefined) {
      this.#run();
    } else {
      this.#later.schedule();
    }
  }

  /** The queue was reset, or the device was: nothing of it is looked at any more. */
  stop(): void {
    this.#later?.cancel();
    this.#mute?.cancel();
    this.#timer?.disarm();
    this.coalescer.cancel();
  }

  dispose(): void {
    this.stop();
    this.#later?.[Symbol.dispose]();
    this.#mute?.[Symbol.dispose]();
    this.#timer?.[Symbol.dispose]();
    this.coalescer.dispose();
  }

  /** QEMU virtio_net_tx_bh: after a full burst again, else when something came between the last look and the asking for kicks. */
  #runLater(): void {
    const queue = this.#activation.queues[this.#queueIndex];
    if (queue === undefined) return;
    queue.disableKicks();
    const taken = this.#run();
    if (taken < this.#mode.burst && !queue.enableKicks()) return;
    if (this.#timer === undefined || taken >= this.#mode.burst) this.#later?.schedule();
    else this.look();
  }

  /** Packets that were taken; a driver that refills as fast as we drain must not keep the loop. */
  #run(): number {
    const queue = this.#activation.queues[this.#queueIndex];
    if (queue === undefined) return 0;
    const burst = Math.min(this.#mode.burst, queue.size);
    let taken = 0;
    let portion = FIRST_PORTION;
    let shown = 0;
    while (taken < burst) {
      const chain = queue.pop();
      if (chain === undefined || !this.#sink.transmit(chain, this.#pair)) break;
      queue.push(chain, 0);
      taken += 1;
      if (taken - shown < portion) continue;
      shown = taken;
      portion = nextPortion(portion);
      queue.publish();
    }
    if (taken === 0) return 0;
    this.#sink.flushPort();
    if (this.coalescer.add(taken)) this.#activation.complete(this.#queueIndex);
    else queue.publish();
    return taken;
  }
}
