import { type Prng, createPrng } from '@virtlab/aio';
import type { DeviceBus } from '@virtlab/domain';
import { linuxFfi } from '@virtlab/linux';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MortalMachine, SEED } from './testing/mortal-machine.ts';
import { ScratchImages, aMoment } from './testing/scratch-images.ts';
import type { GuestSpec, WriterArguments } from './mortality/messages.ts';
import { BLOCK_COUNT } from './mortality/numbered-disk.ts';

const ffi = linuxFfi();
if (!ffi.available && process.env['VIRTLAB_REQUIRE_PEERS'] === '1') throw new Error(ffi.reason);

const CAMPAIGN = Number(process.env['VIRTLAB_CAMPAIGN'] ?? 1);
/** Over 1000 in an ordinary run, with those of the other mortality suites. */
const DOMU_KILLS = Math.ceil(110 * CAMPAIGN);
/** Domains that are killed side by side: while one boots, others work. */
const SEATS = 4;
const SHUTDOWN_TIMEOUT_MS = 10_000;

let images: ScratchImages;
beforeAll(() => {
  images = new ScratchImages();
});
afterAll(() => images[Symbol.dispose]());

/** A disk, what is durable on it, and the domUs that work on it one after the other. */
class WriterSeat {
  readonly #lab: MortalMachine;
  readonly #bus: DeviceBus;
  readonly #prng: Prng;
  readonly #image: string;
  readonly #mac: number;
  readonly #acknowledged: number[] = Array.from({ length: BLOCK_COUNT }, () => 0);

  constructor(lab: MortalMachine, bus: DeviceBus, mac: number, prng: Prng) {
    this.#lab = lab;
    this.#bus = bus;
    this.#mac = mac;
    this.#prng = prng;
    this.#image = images.create(`${bus}-${mac}.img`);
  }

  async liveAndDie(): Promise<void> {
    const lab = this.#lab;
    const victim = await lab.create(this.#writer());
    lab.doomed.add(victim);
    if (this.#prng.below(4) === 0) await lab.untilSaid(victim, 'booting');
    else await lab.untilSaid(victim, 'flushed', 1 + this.#prng.below(3));
    await aMoment(this.#prng);
    await lab.kill(victim);
    lab.noteFlushed(victim, this.#acknowledged);
    await lab.ask({ op: 'destroy', domain: victim });
  }

  /** Finds everything, and goes by itself. */
  async liveAndLeave(): Promise<void> {
    const lab = this.#lab;
    const domain = await lab.createAndBoot(this.#writer());
    expect(lab.said(domain)).toContainEqual({ kind: 'verified' });
    expect(await lab.ask({ op: 'shutdown', domain, timeoutMs: SHUTDOWN_TIMEOUT_MS })).toBe(true);
    expect(lab.said(domain).at(-1)).toEqual({ kind: 'leaks', leaks: [] });
  }

  #writer(): GuestSpec {
    const args: WriterArguments = {
      seed: this.#prng.next(),
      acknowledged: this.#acknowledged,
      mac: this.#mac,
    };
    return {
      name: `writer${this.#mac}`,
      bus: this.#bus,
      role: 'writer',
      args,
      devices: [
        { kind: 'blk', image: { path: this.#image } },
        { kind: 'net', mac: this.#mac },
      ],
    };
  }
}

describe.skipIf(!ffi.available).each(['pci', 'xenbus'] as const)(`domUs over %s (seed ${SEED})`, (bus) => {
  it(
    `${DOMU_KILLS} of them killed, ${SEATS} at a time: nothing that was flushed is lost, nothing is left`,
    { timeout: 60_000 + DOMU_KILLS * 3000 },
    async () => {
      await using lab = await MortalMachine.start();
      // The first guest leaves the directories above its own.
      await new WriterSeat(lab, bus, 9, createPrng(SEED)).liveAndLeave();
      const before = await lab.inventory();
      let left = DOMU_KILLS;
      const seats = Array.from({ length: SEATS }, (_, index) => {
        return new WriterSeat(lab, bus, index + 1, createPrng(SEED + index));
      });
      const alive = async (seat: WriterSeat): Promise<void> => {
        while (left-- > 0) await seat.liveAndDie();
        await seat.liveAndLeave();
      };
      await Promise.all(seats.map(alive));
      expect(await lab.inventory()).toEqual(before);
      expect(await lab.ask({ op: 'end' })).toEqual([]);
      expect(await lab.close()).toEqual([]);
    },
  );
});
