import {
  EVTCHN_FIFO_CONTROL_BLOCK,
  EVTCHN_FIFO_EVENT_WORDS_PER_PAGE,
  EVTCHN_FIFO_LINK_BITS,
  EVTCHN_FIFO_MAX_EVENT_ARRAY_PAGES,
} from '@virtlab/abi/event-channel';
import { DOMID_XEN, XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import { EventChannelError, type EventTarget } from './contract.ts';
import { ABI_2L, ABI_FIFO, type DeliveryArea } from './delivery-area.ts';
import type { DomainPorts } from './domain-ports.ts';
import { takeAllPending, unmaskAllPorts } from './two-level.ts';

const WORDS_PER_PAGE = EVTCHN_FIFO_EVENT_WORDS_PER_PAGE;
/** A control block begins at a multiple of this (event_fifo.c). */
const CONTROL_ALIGN = 8;

/**
 * The hypervisor's control of one domain's FIFO ABI: which control blocks and pages of the event array it has. Checks and
 * error codes in the order of Xen common/event_fifo.c.
 */
export class FifoControl {
  readonly #ports: DomainPorts;
  readonly #controls = new Set<number>();
  #pageCount = 0;

  constructor(ports: DomainPorts) {
    this.#ports = ports;
  }

  /** Answers the link bits. EOPNOTSUPP, ENOENT, EINVAL. */
  initControl(frame: number, offset: number, vcpu: number): number {
    const ports = this.#ports;
    const area = this.#area();
    if (!(Number.isInteger(vcpu) && vcpu >= 0 && vcpu < ports.vcpuCount))
      throw new EventChannelError('ENOENT', `There is no vCPU ${vcpu}`);
    if (!(offset >= 0 && offset <= XEN_PAGE_SIZE - EVTCHN_FIFO_CONTROL_BLOCK.size))
      throw invalid(`A control block at ${offset} crosses the end of its page`);
    if (offset % CONTROL_ALIGN !== 0)
      throw invalid(`A control block at ${offset} is not aligned to ${CONTROL_ALIGN}`);
    if (this.#controls.has(vcpu)) throw invalid(`vCPU ${vcpu} has its control block`);
    const control = this.#frameIndex(frame) + offset / 4;
    const words = ports.target.region.i32;
    Atomics.store(words, area.control + vcpu, control);
    this.#controls.add(vcpu);
    if (ports.abi === '2l') this.#switch(area);
    return EVTCHN_FIFO_LINK_BITS;
  }

  /** EOPNOTSUPP, ENOSPC, EINVAL. */
  expandArray(frame: number): void {
    const ports = this.#ports;
    if (ports.abi !== 'fifo')
      throw new EventChannelError('EOPNOTSUPP', `Domain ${ports.domain} does not use the FIFO ABI`);
    if (this.#pageCount >= EVTCHN_FIFO_MAX_EVENT_ARRAY_PAGES)
      throw new EventChannelError('ENOSPC', `The event array has ${this.#pageCount} pages`);
    const area = this.#area();
    const page = this.#pageCount;
    Atomics.store(ports.target.region.i32, area.pages + page, this.#frameIndex(frame));
    this.#pageCount += 1;
    this.#replay(area, page);
  }

  /** Back to the 2-level ABI, all ports being closed. False while a sender is in the middle of linking. */
  reset(): boolean {
    const ports = this.#ports;
    if (ports.abi === '2l') return true;
    const area = this.#area();
    const { i32: words, u16: shorts } = ports.target.region;
    if (Atomics.compareExchange(words, area.lock, 0, DOMID_XEN + 1) !== 0) return false;
    Atomics.store(words, area.abi, ABI_2L);
    words.fill(0, area.control, area.route / 2);
    shorts.fill(0, area.lastQueue, area.lastQueue + area.portCount);
    this.#controls.clear();
    this.#pageCount = 0;
    ports.abi = '2l';
    Atomics.store(words, area.lock, 0);
    return true;
  }

  /**
   * From now on senders use the queues; what is pending waits in `deferred` for its page of the array. A sender that chose the
   * bitmaps before this sets its bit there afterwards: as nothing is masked, it also tells the receiver, who posts it again.
   */
  #switch(area: DeliveryArea): void {
    const { target } = this.#ports;
    const words = target.region.i32;
    this.#ports.abi = 'fifo';
    Atomics.store(words, area.abi, ABI_FIFO);
    unmaskAllPorts(target);
    takeAllPending(target, (port) => {
      if (this.#ports.isValid(port)) Atomics.or(words, area.deferred + (port >>> 5), 1 << (port & 31));
    });
  }

  /** Posts what came while the page was missing. */
  #replay(area: DeliveryArea, page: number): void {
    const words = this.#ports.target.region.i32;
    const first = (page * WORDS_PER_PAGE) >>> 5;
    const end = Math.min((page + 1) * WORDS_PER_PAGE, area.portCount) >>> 5;
    for (let word = first; word < end; word++) {
      let bits = Atomics.exchange(words, area.deferred + word, 0);
      while (bits !== 0) {
        const port = (word << 5) + (31 - Math.clz32(bits & -bits));
        bits &= bits - 1;
        if (this.#ports.isValid(port)) this.#ports.post(port);
      }
    }
  }

  #area(): DeliveryArea {
    const { delivery, eventFrames } = this.#ports.target;
    if (delivery !== undefined && eventFrames !== undefined) return delivery;
    throw new EventChannelError('EOPNOTSUPP', 'There is no FIFO ABI');
  }

  /** The index of a frame's first 32-bit word. */
  #frameIndex(frame: number): number {
    const { eventFrames, region }: EventTarget = this.#ports.target;
    const first = eventFrames!.firstFrame;
    const index = (frame * XEN_PAGE_SIZE) / 4;
    const isOne = Number.isInteger(frame) && frame >= first && frame < first + eventFrames!.frameCount;
    if (isOne && index > 0 && index + WORDS_PER_PAGE <= region.i32.length) return index;
    throw invalid(`Frame ${frame} is not one of the event frames`);
  }
}

function invalid(message: string): EventChannelError {
  return new EventChannelError('EINVAL', message);
}
