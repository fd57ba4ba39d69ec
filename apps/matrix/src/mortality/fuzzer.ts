import { IOREQ, IOREQ_DIR_SHIFT, STATE_IOREQ_READY } from '@virtlab/abi/ioreq';
import { domId, evtchnPort } from '@virtlab/abi/brands';
import { VIRTIO_ID_BLOCK, VIRTIO_ID_NET, VIRTIO_ID_RNG } from '@virtlab/abi/virtio';
import { type Prng, createPrng } from '@virtlab/aio';
import { type DeviceLinks, type Domain, connectDevices, connectOwnXenstore } from '@virtlab/domain';
import { type ForeignDomain, PAGE_SIZE, POSTED_BIT_COUNT, PostedBits, XEN_PAGES } from '@virtlab/hypervisor';
import { createBlkDriver } from '@virtlab/virtio-blk';
import { createNetDriver } from '@virtlab/virtio-net';
import { createRngDriver } from '@virtlab/virtio-rng';
import type { FuzzArea, FuzzerArguments, GuestArguments } from './messages.ts';

const STORES_PER_ROUND = 16;
const PORT_COUNT = 64;
/** Where the firmware of these domains puts devices, and their slots. */
const PCI_WINDOW = 0xe000_0000;
const TRAP_TIMEOUT_MS = 100;

/** Writes into every place that others read, with devices in use, and rings for it. What becomes of itself does not matter. */
export async function runFuzzer(domain: Domain, { bus, args }: GuestArguments): Promise<void> {
  const { seed, area, rounds } = args as FuzzerArguments;
  process.removeAllListeners('uncaughtException');
  process.on('uncaughtException', () => {}); // its own library trips over what it does
  const links = await connectDevices(domain, connectOwnXenstore(domain), bus, { timeoutMs: TRAP_TIMEOUT_MS });
  keepBusy(domain, links);
  const server = await domain.connection.mapDomain(domId(0), 'events');
  const fuzzer = new Fuzzer(domain, server, createPrng(seed));
  const fuzz = async (): Promise<void> => {
    for (let round = 0; round < rounds; round += 1) {
      fuzzer.round(area);
      await new Promise((resolve) => void setImmediate(resolve));
    }
    domain.console({ kind: 'fuzzed' });
  };
  void fuzz();
}

/** Every device is driven, and taken up again when it broke. */
function keepBusy(domain: Domain, { byType }: DeviceLinks): void {
  const { aio } = domain;
  const forever = async (use: () => Promise<void>): Promise<void> => {
    for (;;) {
      await use().catch(() => {});
      await new Promise((resolve) => void setImmediate(resolve));
    }
  };
  void forever(async () => {
    await using driver = await createRngDriver(byType.get(VIRTIO_ID_RNG)!, { aio });
    for (;;) await driver.read(new Uint8Array(64));
  });
  void forever(async () => {
    await using disk = await createBlkDriver(byType.get(VIRTIO_ID_BLOCK)!, {
      aio,
      timeoutMs: TRAP_TIMEOUT_MS,
    });
    for (;;) await disk.write(0, new Uint8Array(4096));
  });
  void forever(async () => {
    await using net = await createNetDriver(byType.get(VIRTIO_ID_NET)!, { aio });
    const frame = new Uint8Array(64).fill(0xff);
    for (;;) {
      net.send(frame);
      net.kick();
      await new Promise((resolve) => void setImmediate(resolve));
    }
  });
}

class Fuzzer {
  readonly #domain: Domain;
  readonly #server: ForeignDomain;
  readonly #prng: Prng;
  readonly #doorbells: PostedBits;

  constructor(domain: Domain, server: ForeignDomain, prng: Prng) {
    this.#domain = domain;
    this.#server = server;
    this.#prng = prng;
    this.#doorbells = new PostedBits(domain.connection.memory.xen, XEN_PAGES.postedDoorbells);
  }

  round(area: FuzzArea): void {
    for (let count = 0; count < STORES_PER_ROUND; count += 1) this.#store(area);
    for (let port = 1; port < PORT_COUNT; port += 1) this.#domain.events.send(evtchnPort(port));
    this.#doorbells.post(this.#prng.below(POSTED_BIT_COUNT));
    this.#server.ring();
  }

  #store(area: FuzzArea): void {
    const { ram, connection, pages } = this.#domain;
    const { xen } = connection.memory;
    switch (area) {
      case 'rings':
        return this.#scribble(ram.i32, 0, pages.usedPages * PAGE_SIZE);
      case 'xenstore ring':
        return this.#scribble(ram.i32, connection.startInfo.xenstoreFrame * PAGE_SIZE, PAGE_SIZE);
      case 'grant table':
        return this.#scribble(xen.i32, XEN_PAGES.grantTable, PAGE_SIZE / 2);
      case 'posted bits':
        return this.#scribble(xen.i32, XEN_PAGES.postedVectors, PAGE_SIZE);
      case 'port table':
        return this.#misdirect(xen.i32);
      case 'shared info':
        return this.#scribble(xen.i32, XEN_PAGES.sharedInfo, PAGE_SIZE);
      case 'trapped accesses':
        return this.#trap();
      case 'everything': {
        if (this.#prng.below(8) === 0) return this.#scribble(ram.i32, 0, pages.usedPages * PAGE_SIZE);
        return this.#scribble(xen.i32, 0, XEN_PAGES.grantTable + PAGE_SIZE);
      }
    }
  }

  /** One word of the bytes `[from, from + size)`: nothing, everything, a bit of what was there, or anything. */
  #scribble(words: Int32Array, from: number, size: number): void {
    const at = from / 4 + this.#prng.below(size / 4);
    const old = words[at]!;
    const values = [
      0,
      -1,
      old ^ (1 << this.#prng.below(32)),
      old + 1,
      this.#prng.below(4096),
      this.#prng.next(),
    ];
    Atomics.store(words, at, values[this.#prng.below(values.length)]!);
  }

  /** A port that leads to some port of some domain, or nowhere. */
  #misdirect(words: Int32Array): void {
    const entry = XEN_PAGES.portTable / 4 + 2 * this.#prng.below(PORT_COUNT);
    const to = (this.#prng.below(5) << 16) | this.#prng.below(256);
    Atomics.store(words, entry + 1, this.#prng.below(8));
    Atomics.store(words, entry, this.#prng.below(4) === 0 ? this.#prng.next() : to);
  }

  /** An access of any form, often near a device. */
  #trap(): void {
    const { connection, aio } = this.#domain;
    const { u32, u8 } = connection.memory.xen;
    const prng = this.#prng;
    const word = (offset: number): number => (XEN_PAGES.ioreq + offset) / 4;
    const isNear = prng.below(4) !== 0;
    const isConfig = prng.below(2) === 0;
    const slot = 3 + prng.below(4);
    u32[word(IOREQ.offset.addr)] = isNear
      ? isConfig
        ? prng.below(256)
        : PCI_WINDOW + prng.below(0x1_0000)
      : prng.next();
    u32[word(IOREQ.offset.addr) + 1] = isNear ? (isConfig ? slot << 3 : 0) : prng.next();
    u32[word(IOREQ.offset.data)] = prng.below(2) === 0 ? prng.below(256) : prng.next();
    u32[word(IOREQ.offset.size)] = isNear ? 1 << prng.below(3) : prng.next();
    u8[XEN_PAGES.ioreq + IOREQ.offset.type] = isNear ? (isConfig ? 2 : 1) : prng.below(256);
    const state = XEN_PAGES.ioreq + IOREQ.offset.state_bits;
    Atomics.store(
      u8,
      state,
      isNear ? STATE_IOREQ_READY | (prng.below(2) << IOREQ_DIR_SHIFT) : prng.below(256),
    );
    this.#doorbells.post(POSTED_BIT_COUNT - 1);
    connection.trap(
      aio,
      this.#server,
      () => (Atomics.load(u8, state) & 0xf) !== STATE_IOREQ_READY,
      TRAP_TIMEOUT_MS,
    );
  }
}
