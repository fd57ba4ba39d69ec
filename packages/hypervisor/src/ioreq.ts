import {
  IOREQ,
  IOREQ_DATA_IS_PTR_MASK,
  IOREQ_DIR_MASK,
  IOREQ_DIR_SHIFT,
  IOREQ_READ,
  IOREQ_STATE_MASK,
  STATE_IOREQ_INPROCESS,
  STATE_IOREQ_NONE,
  STATE_IOREQ_READY,
  STATE_IORESP_READY,
  ioreqSlotOffset,
} from '@virtlab/abi/ioreq';
import type { MemoryRegion } from '@virtlab/guest-memory';

/** One trapped access, as the device model takes it: read once from the slot, then private. Reused from access to access. */
export interface TrappedAccess {
  /** `IOREQ_TYPE_*`. */
  type: number;
  /** `IOREQ_READ` or `IOREQ_WRITE`. */
  direction: number;
  /** Physical address, or the encoded PCI address of `IOREQ_TYPE_PCI_CONFIG`, as two u32. */
  addressLow: number;
  addressHigh: number;
  /** 1, 2, 4 or 8 bytes. */
  size: number;
  /** As two u32; the upper one is 0 but for accesses of 8 bytes. */
  data: number;
  dataHigh: number;
}

/**
 * One slot of the ioreq page (xen/hvm/ioreq.h): an access of one vCPU, handed to the device model and back.
 * The state word passes it: the domain owns the slot in NONE and IORESP_READY, the device model in READY and INPROCESS, so
 * plain accesses to the other fields are ordered by the atomic store and load of the state.
 */
export class IoreqSlot {
  readonly #region: MemoryRegion;
  readonly #at: number;
  readonly #state: number;

  constructor(region: MemoryRegion, pageOffset: number, vcpu: number) {
    this.#region = region;
    this.#at = pageOffset + ioreqSlotOffset(vcpu);
    this.#state = this.#at + IOREQ.offset.state_bits;
  }

  /** Domain side: submits an access. The slot must be free. */
  submit(
    type: number,
    direction: number,
    addressLow: number,
    addressHigh: number,
    size: number,
    data: number,
    dataHigh: number = 0,
  ): void {
    const { u32, u8 } = this.#region;
    const address = (this.#at + IOREQ.offset.addr) / 4;
    u32[address] = addressLow;
    u32[address + 1] = addressHigh;
    u32[(this.#at + IOREQ.offset.data) / 4] = data;
    u32[(this.#at + IOREQ.offset.data) / 4 + 1] = dataHigh;
    u32[(this.#at + IOREQ.offset.count) / 4] = 1;
    u32[(this.#at + IOREQ.offset.size) / 4] = size;
    u8[this.#at + IOREQ.offset.type] = type;
    Atomics.store(u8, this.#state, STATE_IOREQ_READY | (direction << IOREQ_DIR_SHIFT));
  }

  /** Domain side: the response stands in the slot. */
  isAnswered(): boolean {
    return (Atomics.load(this.#region.u8, this.#state) & IOREQ_STATE_MASK) === STATE_IORESP_READY;
  }

  /** Domain side: upper half of the response of an access of 8 bytes, to be read before `takeResponse`. */
  get responseHigh(): number {
    return this.#region.u32[(this.#at + IOREQ.offset.data) / 4 + 1]!;
  }

  /** Domain side: takes the response and frees the slot. */
  takeResponse(): number {
    const data = this.#region.u32[(this.#at + IOREQ.offset.data) / 4]!;
    Atomics.store(this.#region.u8, this.#state, STATE_IOREQ_NONE);
    return data;
  }

  /** Device model side: takes a submitted access into `into`; false if there is none, or one of a form we do not serve. */
  take(into: TrappedAccess): boolean {
    const { u32, u8 } = this.#region;
    const bits = Atomics.load(u8, this.#state);
    if ((bits & IOREQ_STATE_MASK) !== STATE_IOREQ_READY) return false;
    Atomics.store(u8, this.#state, (bits & ~IOREQ_STATE_MASK) | STATE_IOREQ_INPROCESS);
    const address = (this.#at + IOREQ.offset.addr) / 4;
    into.type = u8[this.#at + IOREQ.offset.type]!;
    into.direction = (bits & IOREQ_DIR_MASK) >> IOREQ_DIR_SHIFT;
    into.addressLow = u32[address]!;
    into.addressHigh = u32[address + 1]!;
    into.size = u32[(this.#at + IOREQ.offset.size) / 4]!;
    into.data = u32[(this.#at + IOREQ.offset.data) / 4]!;
    into.dataHigh = u32[(this.#at + IOREQ.offset.data) / 4 + 1]!;
    const { size } = into;
    const isServed = size === 1 || size === 2 || size === 4 || size === 8;
    if ((bits & IOREQ_DATA_IS_PTR_MASK) === 0 && isServed) return true;
    this.answer(into.direction, 0xffff_ffff, 0xffff_ffff);
    return false;
  }

  /** Device model side: puts the response in the slot; the caller then rings the domain. */
  answer(direction: number, data: number, dataHigh: number = 0): void {
    if (direction === IOREQ_READ) {
      const at = (this.#at + IOREQ.offset.data) / 4;
      this.#region.u32[at] = data;
      this.#region.u32[at + 1] = dataHigh;
    }
    Atomics.store(this.#region.u8, this.#state, STATE_IORESP_READY | (direction << IOREQ_DIR_SHIFT));
  }
}
