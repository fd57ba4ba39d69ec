import type { DomId } from '@virtlab/abi/brands';
import { type Prng, createPrng } from '@virtlab/aio';
import type { DeviceBus } from '@virtlab/domain';
import { linuxFfi } from '@virtlab/linux';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MortalMachine, SEED } from './testing/mortal-machine.ts';
import { ScratchImages, aMoment } from './testing/scratch-images.ts';
import type { SurvivorStatus, WriterArguments } from './mortality/messages.ts';

const ffi = linuxFfi();
if (!ffi.available && process.env['VIRTLAB_REQUIRE_PEERS'] === '1') throw new Error(ffi.reason);

const CAMPAIGN = Number(process.env['VIRTLAB_CAMPAIGN'] ?? 1);
const DRIVER_DOMAIN_KILLS = Math.ceil(780 * CAMPAIGN);
const XENSTORED_KILLS = Math.ceil(20 * CAMPAIGN);
const SHUTDOWN_TIMEOUT_MS = 10_000;

let images: ScratchImages;
beforeAll(() => {
  images = new ScratchImages();
});
afterAll(() => images[Symbol.dispose]());

/** A domU that stays, and the driver domains that serve it one after the other. */
class SurvivorSeat {
  readonly domain: DomId;
  readonly #lab: MortalMachine;
  readonly #prng: Prng;
  driverDomain: DomId;

  private constructor(lab: MortalMachine, prng: Prng, domain: DomId, driverDomain: DomId) {
    this.#lab = lab;
    this.#prng = prng;
    this.domain = domain;
    this.driverDomain = driverDomain;
  }

  static async start(lab: MortalMachine, bus: DeviceBus, mac: number, prng: Prng): Promise<SurvivorSeat> {
    const driverDomain = (await lab.ask({ op: 'create driver domain' })) as DomId;
    lab.doomed.add(driverDomain);
    const args: WriterArguments = { seed: prng.next(), acknowledged: [], mac };
    const domain = await lab.createAndBoot({
      name: `survivor${mac}`,
      bus,
      role: 'survivor',
      args,
      backendDomain: driverDomain,
      devices: [
        { kind: 'blk', image: { path: images.create(`survivor-${bus}-${mac}-${prng.next()}.img`) } },
        { kind: 'net', mac },
      ],
    });
    return new SurvivorSeat(lab, prng, domain, driverDomain);
  }

  async status(): Promise<SurvivorStatus> {
    return (await this.#lab.askGuest(this.domain, { op: 'status' })) as SurvivorStatus;
  }

  async untilFlushed(more: number): Promise<void> {
    const { flushes } = await this.status();
    await this.#lab.until(async () => (await this.status()).flushes >= flushes + more);
  }

  async leave(): Promise<void> {
    const { domain, driverDomain } = this;
    const lab = this.#lab;
    expect(await lab.ask({ op: 'shutdown', domain, timeoutMs: SHUTDOWN_TIMEOUT_MS })).toBe(true);
    expect(lab.said(domain).at(-1)).toEqual({ kind: 'leaks', leaks: [] });
    await lab.kill(driverDomain);
    await lab.ask({ op: 'destroy', domain: driverDomain });
  }

  /** Kills the driver domain at work, or while it boots; another takes over. */
  async replaceDriverDomain(): Promise<void> {
    const lab = this.#lab;
    if (this.#prng.below(4) > 0) await this.untilFlushed(1 + this.#prng.below(3));
    await aMoment(this.#prng);
    const dead = this.driverDomain;
    await lab.kill(dead);
    await lab.ask({ op: 'destroy', domain: dead });
    this.driverDomain = (await lab.ask({ op: 'create driver domain' })) as DomId;
    lab.doomed.add(this.driverDomain);
    if (this.#prng.below(2) === 0) await lab.untilSaid(this.driverDomain, 'booting');
    await lab.ask({ op: 'move', domain: this.domain, backendDomain: this.driverDomain });
  }
}

describe.skipIf(!ffi.available)(`driver domains (seed ${SEED})`, () => {
  it(
    `${DRIVER_DOMAIN_KILLS} of them killed: each time the domU finds its device again and all that it flushed`,
    { timeout: 60_000 + DRIVER_DOMAIN_KILLS * 3000 },
    async () => {
      await using lab = await MortalMachine.start();
      await (await SurvivorSeat.start(lab, 'xenbus', 9, createPrng(SEED))).leave();
      const before = await lab.inventory();
      const buses = ['xenbus', 'xenbus', 'xenbus-register-page'] as const;
      const seats = await Promise.all(
        buses.map((bus, index) => SurvivorSeat.start(lab, bus, index + 1, createPrng(SEED + index))),
      );
      let left = DRIVER_DOMAIN_KILLS;
      const alive = async (seat: SurvivorSeat): Promise<void> => {
        while (left-- > 0) await seat.replaceDriverDomain();
        await seat.untilFlushed(2);
      };
      await Promise.all(seats.map(alive));
      const total = await Promise.all(seats.map((seat) => seat.status()));
      const reconnects = total.reduce((sum, each) => sum + each.reconnects, 0);
      expect(reconnects).toBeGreaterThan(DRIVER_DOMAIN_KILLS / 4);
      for (const seat of seats) await seat.leave();
      expect(await lab.inventory()).toEqual(before);
      expect(await lab.close()).toEqual([]);
    },
  );

  it(
    `xenstored killed ${XENSTORED_KILLS} times, with domain 0: the domU is told that its devices are gone, nothing is left`,
    { timeout: 60_000 + XENSTORED_KILLS * 5000 },
    async () => {
      const prng = createPrng(SEED);
      for (let kill = 0; kill < XENSTORED_KILLS; kill += 1) {
        await using lab = await MortalMachine.start();
        const seat = await SurvivorSeat.start(
          lab,
          kill % 2 === 0 ? 'xenbus' : 'xenbus-register-page',
          1,
          prng,
        );
        await seat.untilFlushed(1);
        await aMoment(prng);
        await lab.kill(lab.dom0);
        await lab.until(async () => (await seat.status()).losses > 0);
        await lab.kill(seat.driverDomain);
        await lab.kill(seat.domain);
        expect(await lab.close()).toEqual([]);
      }
    },
  );
});
