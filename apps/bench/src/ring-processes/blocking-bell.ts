import { type EventFd, PollSet } from '@virtlab/linux';

/** Without a doorbell for so long, the other side is gone or stuck. */
const PATIENCE_MS = 2000;

/** One direction's eventfd for threads that sleep on it: written for each doorbell, without a look at whether anybody sleeps. */
export class BlockingBell {
  readonly #eventFd: EventFd;
  readonly #pollSet = new PollSet(1);
  rungCount = 0;

  constructor(eventFd: EventFd) {
    this.#eventFd = eventFd;
    this.#pollSet.add(eventFd.fd);
  }

  ring(): void {
    this.rungCount += 1;
    this.#eventFd.write();
  }

  /** Sleeps until it was rung since the last time. Throws when that takes too long. */
  wait(): void {
    if (this.#pollSet.wait(PATIENCE_MS) === 0) throw new Error(`No doorbell for ${PATIENCE_MS} ms`);
    this.#eventFd.read();
  }

  /** Forgets what was rung. */
  drain(): void {
    this.#eventFd.read();
  }
}
