import type { VirtioDevice } from '@virtlab/virtio';
import {
  ACCEPT_ALL,
  type HostPort,
  type NetDeviceOptions,
  createHostPort,
  createLearningSwitch,
  createNetDevice,
} from '@virtlab/virtio-net';
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
  readMark,
  readNumber,
  readSize,
} from './frames.ts';
import { SegmentSink } from './segments.ts';

/** What a card is like that is not as usual. */
export type CardPlan = Pick<NetDeviceOptions, 'tx' | 'queuePairs'>;

/** Frames that a station has sent and that were not reported back: a receive ring holds as many. */
const WINDOW = 128;

/** A card on a switch of its own, with a station on another port and one for segments on a third. */
export function createCard(plan: CardPlan = {}): VirtioDevice {
  const network = createLearningSwitch();
  const station = createHostPort(network, 'station', { mac: STATION_MAC });
  const answer = new FloodFrame(FRAME_SIZE_MIN, STATION_MAC, CARD_MAC);
  const reply = (number: number): void => {
    station.send(answer.set(number, FRAME_END));
    station.kick();
  };
  const sink = new SegmentSink(reply);
  const sinkPort = network.addPort('sink');
  sinkPort.attach(sink);
  sinkPort.expect?.(ACCEPT_ALL);
  const receiver = new FloodReceiver(reply);
  const sender = new WindowedSender(station);
  station.onFrame((frame) => {
    switch (readMark(frame)) {
      case FRAME_START:
        return sender.start(readSize(frame), readNumber(frame));
      case FRAME_ACK:
        return sender.acknowledge(readNumber(frame));
      case FRAME_TALLY:
        return sink.expect(readNumber(frame));
      default:
        return receiver.receive(frame);
    }
  });
  return createNetDevice({ mac: CARD_MAC, port: network.addPort('card'), ...plan });
}

/** Sends numbered frames to the card, no more ahead of what it reports than its ring holds, and then how many there were. */
class WindowedSender {
  readonly #station: HostPort;
  #frame: FloodFrame | undefined;
  #count = 0;
  #sent = 0;
  #acknowledged = 0;

  constructor(station: HostPort) {
    this.#station = station;
    station.onWritable(() => this.#fill());
  }

  start(size: number, count: number): void {
    this.#frame = new FloodFrame(size, STATION_MAC, CARD_MAC);
    this.#count = count;
    this.#sent = 0;
    this.#acknowledged = 0;
    this.#fill();
  }

  acknowledge(count: number): void {
    this.#acknowledged = count;
    this.#fill();
  }

  #fill(): void {
    const frame = this.#frame;
    if (frame === undefined) return;
    const station = this.#station;
    for (; this.#sent < this.#count && this.#sent - this.#acknowledged < WINDOW; this.#sent += 1) {
      if (!station.send(frame.set(this.#sent))) return;
      if (this.#sent % BATCH_COUNT === BATCH_COUNT - 1) station.kick();
    }
    if (this.#sent === this.#count && station.send(frame.set(this.#count, FRAME_END)))
      this.#frame = undefined;
    station.kick();
  }
}
