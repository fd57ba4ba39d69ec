import {
  PCI_BASE_ADDRESS_0,
  PCI_BASE_ADDRESS_MEM_MASK,
  PCI_COMMAND,
  PCI_COMMAND_MEMORY,
} from '@virtlab/abi/pci';
import type { MemoryRegion } from '@virtlab/guest-memory';
import { POSTED_BIT_COUNT, PostedBits, XEN_PAGES } from '@virtlab/hypervisor';
import type { DoorbellRegistrar, NotifyAddress, PciBus } from '@virtlab/virtio-pci';
import { IOREQ_DOORBELL } from './hvm-platform.ts';

interface PostedDoorbell {
  readonly bdf: number;
  readonly address: NotifyAddress;
  readonly onRing: () => void;
}

/** Kicks that bypass the trap: bits that the domain posts, found by the address a kick would be written to. */
export class PostedDoorbells {
  readonly #bits: PostedBits;
  readonly #table: Uint32Array;
  readonly #bus: PciBus;
  readonly #doorbells: (PostedDoorbell | undefined)[] = Array.from({ length: IOREQ_DOORBELL });

  constructor(xen: MemoryRegion, bus: PciBus) {
    this.#bits = new PostedBits(xen, XEN_PAGES.postedDoorbells);
    this.#table = xen.u32.subarray(
      XEN_PAGES.doorbellTable / 4,
      XEN_PAGES.doorbellTable / 4 + 2 * POSTED_BIT_COUNT,
    );
    this.#bus = bus;
  }

  registrarFor(bdf: number): DoorbellRegistrar {
    return {
      register: (address, onRing) => {
        const bit = this.#doorbells.indexOf(undefined);
        if (bit < 0) return { [Symbol.dispose]: () => {} }; // none free: this queue's kicks are trapped
        this.#doorbells[bit] = { bdf, address, onRing };
        this.place(bdf);
        return {
          [Symbol.dispose]: () => {
            this.#doorbells[bit] = undefined;
            this.#setAddress(bit, 0);
          },
        };
      },
    };
  }

  /** The function's BARs may have moved: its doorbells move along. */
  place(bdf: number): void {
    for (const [bit, doorbell] of this.#doorbells.entries()) {
      if (doorbell?.bdf === bdf) this.#setAddress(bit, this.#addressOf(doorbell));
    }
  }

  drain(onTrap: () => void): number {
    return this.#bits.drain((bit) => {
      if (bit === IOREQ_DOORBELL) onTrap();
      else this.#doorbells[bit]?.onRing();
    });
  }

  #addressOf({ bdf, address }: PostedDoorbell): number {
    const register = PCI_BASE_ADDRESS_0 + 4 * address.bar;
    if ((this.#bus.configRead(bdf, PCI_COMMAND, 2) & PCI_COMMAND_MEMORY) === 0) return 0;
    const low = (this.#bus.configRead(bdf, register, 4) & PCI_BASE_ADDRESS_MEM_MASK) >>> 0;
    const base = this.#bus.configRead(bdf, register + 4, 4) * 2 ** 32 + low;
    return base === 0 ? 0 : base + address.offset;
  }

  #setAddress(bit: number, address: number): void {
    Atomics.store(this.#table, 2 * bit + 1, Math.floor(address / 2 ** 32));
    Atomics.store(this.#table, 2 * bit, address >>> 0);
  }
}
