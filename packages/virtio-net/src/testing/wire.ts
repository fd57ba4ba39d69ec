import type { FrameReceiver, FrameView, NetPort } from '../network.ts';
import type { FrameOffload } from '../frame-offload.ts';
import { BytesFrame } from '../frame-views.ts';

/** A port with the test at the other end of the wire. */
export class TestWire implements NetPort {
  /** What the station sent, copied. */
  readonly sent: Uint8Array[] = [];
  /** And what each left undone. */
  readonly offloads: FrameOffload[] = [];
  flushCount = 0;
  #receiver: FrameReceiver | undefined;

  attach(receiver: FrameReceiver | undefined): void {
    this.#receiver = receiver;
  }

  transmit(frame: FrameView): void {
    const bytes = new Uint8Array(frame.size);
    frame.copy(0, frame.size, bytes, 0);
    this.sent.push(bytes);
    this.offloads.push({ ...frame.offload });
  }

  flush(): void {
    this.flushCount += 1;
  }

  deliverView(frame: FrameView): boolean {
    const isTaken = this.#receiver!.receive(frame);
    this.#receiver!.flush();
    return isTaken;
  }

  /** Frames for the station, as one batch; whether it took each. */
  deliver(...frames: readonly Uint8Array[]): boolean[] {
    const outcomes = frames.map((frame) => this.#receiver!.receive(new BytesFrame().set(frame)));
    this.#receiver!.flush();
    return outcomes;
  }
}
