import type { DomId } from '@virtlab/abi/brands';
import {
  EVTCHN_FIFO_CONTROL_BLOCK,
  EVTCHN_FIFO_EVENT_WORDS_PER_PAGE,
  EVTCHN_FIFO_MAX_EVENT_ARRAY_PAGES,
} from '@virtlab/abi/event-channel';
import { XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import { EventChannelError, type EventChannelHypercalls, type EventTarget } from './contract.ts';
import type { DeliveryArea } from './delivery-area.ts';
import { FifoConsumer } from './fifo-consumer.ts';
import { postFifo } from './fifo-post.ts';
import { BUSY, MASKED, PENDING } from './fifo-words.ts';

const WORDS_PER_PAGE = EVTCHN_FIFO_EVENT_WORDS_PER_PAGE;
/** Control blocks of all vCPUs fit one frame, each on cache lines of its own. */
const CONTROL_STRIDE = 128;
/** A sender that made a word busy is done after a few instructions, unless it was killed there. */
const BUSY_TRIES_MAX = 100;

export interface GuestFifoOptions {
  readonly domain: DomId;
  readonly own: EventTarget;
  readonly vcpuCount: number;
  readonly hypercalls: EventChannelHypercalls;
  readonly run: (port: number) => boolean;
}

/**
 * A domain's own side of the FIFO ABI: its control blocks in the first of its event frames, its event array in those behind.
 * Every port starts masked. Pages are prepared when one of their ports is first touched, and given to the hypervisor in order.
 */
export class GuestFifo {
  readonly #domain: DomId;
  readonly #own: EventTarget;
  readonly #area: DeliveryArea;
  readonly #hypercalls: EventChannelHypercalls;
  readonly #consumers: readonly FifoConsumer[];
  readonly #firstFrame: number;
  /** Ports that it can deliver to, port 0 included. */
  readonly portCount: number;
  /** Port 0 of the array, in 32-bit words. */
  readonly #array: number;
  #preparedPages = 0;
  #addedPages = 0;
  #adding: Promise<void> = Promise.resolve();

  /** Throws `EventChannelError` EOPNOTSUPP for a domain without event frames. */
  constructor({ domain, own, vcpuCount, hypercalls, run }: GuestFifoOptions) {
    const { delivery, eventFrames, region } = own;
    if (delivery === undefined || eventFrames === undefined || eventFrames.frameCount < 2)
      throw new EventChannelError('EOPNOTSUPP', `Domain ${domain} has no frames for the FIFO ABI`);
    this.#domain = domain;
    this.#own = own;
    this.#area = delivery;
    this.#hypercalls = hypercalls;
    this.#firstFrame = eventFrames.firstFrame;
    const pageCountMax = Math.min(eventFrames.frameCount - 1, EVTCHN_FIFO_MAX_EVENT_ARRAY_PAGES);
    const control = (eventFrames.firstFrame * XEN_PAGE_SIZE) / 4;
    this.#array = control + WORDS_PER_PAGE;
    region.u32.fill(0, control, control + (vcpuCount * CONTROL_STRIDE) / 4);
    this.portCount = Math.min(delivery.portCount, pageCountMax * WORDS_PER_PAGE);
    this.#consumers = Array.from(
      { length: vcpuCount },
      (_, vcpu) =>
        new FifoConsumer({
          region,
          control: control + (vcpu * CONTROL_STRIDE) / 4,
          array: this.#array,
          portCount: this.portCount,
          run,
        }),
    );
  }

  /** Gives every vCPU its control block. Rejects with `EventChannelError`; the first success switches the ABI. */
  async initControl(): Promise<void> {
    for (const vcpu of this.#consumers.keys())
      await this.#hypercalls.initControl(this.#firstFrame, controlOffset(vcpu), vcpu);
  }

  hasPageOf(port: number): boolean {
    return port < this.#addedPages * WORDS_PER_PAGE;
  }

  /** Resolves when events on the port can be delivered; others are kept until then. Rejects with `EventChannelError`. */
  addPageOf(port: number): Promise<void> {
    this.#prepare(port);
    if (this.hasPageOf(port)) return Promise.resolve();
    const added = this.#adding.then(() => this.#addUpTo(port));
    this.#adding = added.catch(() => {}); // told to whoever asked; the next who asks tries again
    return added;
  }

  mask(port: number): void {
    this.#prepare(port);
    Atomics.or(this.#own.region.i32, this.#array + port, MASKED);
  }

  isMasked(port: number): boolean {
    this.#prepare(port);
    return (Atomics.load(this.#own.region.i32, this.#array + port) & MASKED) !== 0;
  }

  /**
   * As Linux does: clears the mask of a word that is neither pending nor busy; otherwise what `EVTCHNOP_unmask` does, which
   * may also be done here: clear the mask, then, if an event is pending, post it.
   */
  unmask(port: number): void {
    this.#prepare(port);
    const words = this.#own.region.i32;
    const at = this.#array + port;
    let word = Atomics.load(words, at);
    for (let attempt = 0; attempt < BUSY_TRIES_MAX; attempt++) {
      if ((word & MASKED) === 0) return;
      if ((word & PENDING) !== 0) break;
      const free = word & ~BUSY;
      const seen = Atomics.compareExchange(words, at, free, free & ~MASKED);
      if (seen === free) return;
      word = seen;
    }
    if ((Atomics.and(words, at, ~MASKED) & PENDING) !== 0) this.post(port);
  }

  /** Posts an event to a port of this domain. */
  post(port: number): void {
    postFifo(this.#own, this.#area, port, this.#domain);
  }

  /** One round of a vCPU, the upcall being lowered; answers how many ports were told. */
  round(vcpu: number): number {
    return this.#consumers[vcpu]!.round();
  }

  /** Whether the vCPU's last round stopped before its queues were empty. */
  hasLeft(vcpu: number): boolean {
    return this.#consumers[vcpu]!.hasLeft();
  }

  async #addUpTo(port: number): Promise<void> {
    while (this.#addedPages * WORDS_PER_PAGE <= port) {
      await this.#hypercalls.expandArray(this.#firstFrame + 1 + this.#addedPages);
      this.#addedPages += 1;
    }
  }

  /** Nobody else touches a page that was not added. */
  #prepare(port: number): void {
    if (port < this.#preparedPages * WORDS_PER_PAGE) return;
    const page = Math.trunc(port / WORDS_PER_PAGE);
    const { i32 } = this.#own.region;
    for (; this.#preparedPages <= page; this.#preparedPages++) {
      const first = this.#array + this.#preparedPages * WORDS_PER_PAGE;
      i32.fill(MASKED, first, first + WORDS_PER_PAGE);
    }
  }
}

/** Bytes from the start of the frame. */
function controlOffset(vcpu: number): number {
  const offset = vcpu * CONTROL_STRIDE;
  if (offset + EVTCHN_FIFO_CONTROL_BLOCK.size > XEN_PAGE_SIZE)
    throw new RangeError(`vCPU ${vcpu} has no control block in the frame`);
  return offset;
}
