import { VIRTIO_XENBUS_REGISTERS } from '@virtlab/abi/virtio-xenbus-registers';
import type { AioContext, Timer } from '@virtlab/aio';
import type { Turn } from '../lifeline.ts';
import type { DriverRegisterPage } from './driver-register-page.ts';

const { offset: AT, width: WIDTH } = VIRTIO_XENBUS_REGISTERS;

/** How often `be_active` is looked at while no event says that it was cleared. */
const POLL_INTERVAL_MIN_MS = 1;
const POLL_INTERVAL_MAX_MS = 32;

const NOTHING = 0;
const ASKED = 1;
const KICK = 2;
const ISR = 3;

interface Asked {
  readonly turn: Turn;
  readonly isWrite: boolean;
  readonly offset: number;
  readonly size: number;
  readonly value: number;
  readonly resolve: (value: number) => void;
}

export interface RegisterChannelOptions {
  readonly page: DriverRegisterPage;
  readonly queueCountMax: number;
  readonly aio: AioContext;
  /** How long the page is polled for a kick's answer when nobody waits. */
  readonly timeoutMs: number;
  /** Rings the access channel. */
  readonly send: () => void;
  /** What the interrupt status register read, when `readIsr` asked for it. */
  readonly onIsr: (isr: number) => void;
}

/**
 * The driver's way to the register file: one access at a time in the page, the others wait here. Those that were asked for have
 * an operation that waits for them, and its deadline; when that is over they are not made any more, or their late answer
 * is ignored. Kicks and reads of the interrupt status have nobody who waits: they take turns with the others, and a
 * queue's kick that has not been made yet stands for all that follow.
 */
export class RegisterChannel {
  readonly #options: RegisterChannelOptions;
  readonly #page: DriverRegisterPage;
  readonly #asked: Asked[] = [];
  /** Queues to kick, in order: a ring. */
  readonly #kicks: Uint16Array;
  #kickFirst = 0;
  #kickCount = 0;
  readonly #isKickDue: Uint8Array;
  #isIsrDue = false;
  /** What stands in the page. */
  #inPage: typeof NOTHING | typeof ASKED | typeof KICK | typeof ISR = NOTHING;
  #askedInPage: Asked | undefined;
  #wasAsked = false;
  readonly #poll: Timer;
  #pollIntervalMs = POLL_INTERVAL_MIN_MS;
  #pollUntilMs = 0;
  #isStopped = false;

  constructor(options: RegisterChannelOptions) {
    this.#options = options;
    this.#page = options.page;
    this.#kicks = new Uint16Array(options.queueCountMax);
    this.#isKickDue = new Uint8Array(options.queueCountMax);
    this.#poll = options.aio.createTimer(() => this.advance());
  }

  /** Reads `size` bytes. Not settled when `turn` is over before: the operation it belongs to bounds it. */
  read(turn: Turn, offset: number, size: number): Promise<number> {
    return this.#ask(turn, false, offset, size, 0);
  }

  write(turn: Turn, offset: number, size: number, value: number): Promise<number> {
    return this.#ask(turn, true, offset, size, value);
  }

  /** Never suspends; the device is told at once or after what is in the page now. */
  kick(queue: number): void {
    if (this.#isStopped || this.#isKickDue[queue] !== 0) return;
    if (this.#inPage === NOTHING) {
      this.#postKick(queue);
      return;
    }
    this.#isKickDue[queue] = 1;
    this.#kicks[(this.#kickFirst + this.#kickCount) % this.#kicks.length] = queue;
    this.#kickCount += 1;
    if (!this.#poll.armed) this.#armPoll();
  }

  /** The device interrupted: its reason is read, once for any number of interrupts meanwhile. */
  readIsr(): void {
    this.#isIsrDue = true;
    this.advance();
  }

  /** The page may have been answered: takes the answer and makes the next access. */
  advance(): void {
    while (!this.#isStopped) {
      if (this.#inPage !== NOTHING) {
        if (this.#page.isActive) break;
        this.#takeAnswer();
      } else if (!this.#postNext()) break;
    }
    if (!this.#isStopped) this.#armPoll();
  }

  /** Nothing is posted, resolved or reported any more. */
  stop(): void {
    this.#isStopped = true;
    this.#asked.length = 0;
    this.#poll[Symbol.dispose]();
  }

  #ask(turn: Turn, isWrite: boolean, offset: number, size: number, value: number): Promise<number> {
    const { promise, resolve } = Promise.withResolvers<number>();
    this.#asked.push({ turn, isWrite, offset, size, value, resolve });
    this.#pollIntervalMs = POLL_INTERVAL_MIN_MS;
    this.advance();
    return promise;
  }

  #takeAnswer(): void {
    const what = this.#inPage;
    const asked = this.#askedInPage;
    this.#inPage = NOTHING;
    this.#askedInPage = undefined;
    if (what === ASKED && asked !== undefined)
      asked.resolve(asked.isWrite ? 0 : this.#page.answer(asked.offset, asked.size));
    else if (what === ISR) this.#options.onIsr(this.#page.answer(AT.isr, WIDTH.isr));
  }

  /** In turns, so that neither kicks nor operations wait for ever. */
  #postNext(): boolean {
    while (this.#asked[0]?.turn.isOver === true) this.#asked.shift();
    const isBackgroundDue = this.#isIsrDue || this.#kickCount > 0;
    if (this.#asked.length > 0 && !(this.#wasAsked && isBackgroundDue)) {
      const asked = this.#asked.shift()!;
      this.#askedInPage = asked;
      this.#wasAsked = true;
      this.#post(ASKED, asked.isWrite, asked.offset, asked.size, asked.value);
      return true;
    }
    this.#wasAsked = false;
    if (this.#isIsrDue) {
      this.#isIsrDue = false;
      this.#post(ISR, false, AT.isr, WIDTH.isr, 0);
      return true;
    }
    if (this.#kickCount === 0) return false;
    const queue = this.#kicks[this.#kickFirst]!;
    this.#kickFirst = (this.#kickFirst + 1) % this.#kicks.length;
    this.#kickCount -= 1;
    this.#isKickDue[queue] = 0;
    this.#postKick(queue);
    return true;
  }

  #postKick(queue: number): void {
    this.#post(KICK, true, AT.queue_notify, WIDTH.queue_notify, queue);
  }

  #post(
    what: typeof ASKED | typeof KICK | typeof ISR,
    isWrite: boolean,
    offset: number,
    size: number,
    value: number,
  ): void {
    this.#inPage = what;
    this.#page.post(isWrite, offset, size, value);
    this.#pollIntervalMs = POLL_INTERVAL_MIN_MS;
    this.#pollUntilMs = this.#options.aio.now() + this.#options.timeoutMs;
    this.#options.send();
  }

  /** The device of 2011 sends no event when it has answered: then looking is all there is. */
  #armPoll(): void {
    const isAwaited =
      this.#askedInPage?.turn.isOver === false || this.#asked.some(({ turn }) => !turn.isOver);
    const isBehind = this.#inPage === ISR || this.#isIsrDue || this.#kickCount > 0;
    const isDue = isAwaited || (isBehind && this.#options.aio.now() < this.#pollUntilMs);
    if (!isDue || this.#inPage === NOTHING) {
      this.#poll.disarm();
      return;
    }
    this.#poll.arm(this.#pollIntervalMs);
    this.#pollIntervalMs = Math.min(POLL_INTERVAL_MAX_MS, this.#pollIntervalMs * 2);
  }
}
