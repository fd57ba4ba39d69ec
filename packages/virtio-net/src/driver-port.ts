import type { NetDriver } from './driver-contract.ts';
import { BytesFrame } from './frame-views.ts';
import type { FrameReceiver, FrameView, NetPort } from './network.ts';

/** The card of a driver as the end of a wire, for a guest that passes frames on. The driver's handlers are taken. */
export function createDriverPort(driver: NetDriver): NetPort {
  return new DriverPort(driver);
}

class DriverPort implements NetPort {
  readonly #driver: NetDriver;
  readonly #frame = new BytesFrame();

  constructor(driver: NetDriver) {
    this.#driver = driver;
  }

  attach(receiver: FrameReceiver | undefined): void {
    if (receiver === undefined) {
      this.#driver.onFrame(undefined);
      return;
    }
    this.#driver.onFrame(
      (frame, { offload }) => void receiver.receive(this.#frame.set(frame, 0, frame.length, offload)),
      () => receiver.flush(),
    );
  }

  transmit(frame: FrameView): void {
    if (this.#driver.failure === undefined) this.#driver.sendView(frame);
  }

  flush(): void {
    this.#driver.kick();
  }

  isReady(): boolean {
    return this.#driver.failure !== undefined || this.#driver.isReady();
  }

  onReady(handler: (() => void) | undefined): void {
    this.#driver.onWritable(handler);
  }
}
