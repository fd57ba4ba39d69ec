import type { DomId } from '@virtlab/abi/brands';
import { createPrng } from '@virtlab/aio';
import { linuxFfi } from '@virtlab/linux';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MortalMachine, SEED } from './testing/mortal-machine.ts';
import { ScratchImages, aMoment } from './testing/scratch-images.ts';
import type { BystanderStatus, GuestSpec, WriterArguments } from './mortality/messages.ts';
import { BLOCK_COUNT } from './mortality/numbered-disk.ts';

const ffi = linuxFfi();
if (!ffi.available && process.env['VIRTLAB_REQUIRE_PEERS'] === '1') throw new Error(ffi.reason);

const KILLS = Number(process.env['VIRTLAB_KILLS'] ?? 10);
/** Most kills come after a number of acknowledged flushes up to this, and a few turns; the others while it connects. */
const FLUSHES_MAX = 6;
const TURNS_MAX = 200;
const SHUTDOWN_TIMEOUT_MS = 5000;

describe.skipIf(!ffi.available).each(['pci', 'xenbus'] as const)(
  `domUs over %s that are killed (seed ${SEED})`,
  (bus) => {
    const prng = createPrng(SEED);
    let lab: MortalMachine;
    let bystander: DomId;
    let images: ScratchImages;
    let image: string;
    const acknowledged = Array.from({ length: BLOCK_COUNT }, () => 0);

    beforeAll(async () => {
      images = new ScratchImages();
      image = images.create('disk.img');
      lab = await MortalMachine.start();
      bystander = await lab.createAndBoot({
        name: 'bystander',
        bus,
        role: 'bystander',
        devices: [{ kind: 'blk' }, { kind: 'net', mac: 1 }, { kind: 'rng' }],
      });
    });

    afterAll(async () => {
      expect(await lab.close()).toEqual([]);
      images[Symbol.dispose]();
    });

    function writer(): GuestSpec {
      const args: WriterArguments = { seed: prng.next(), acknowledged, mac: 2 };
      return {
        name: 'writer',
        bus,
        role: 'writer',
        args,
        devices: [
          { kind: 'blk', image: { path: image } },
          { kind: 'net', mac: 2 },
        ],
      };
    }

    /** All of the other domU's devices go on, with every byte as it should be. */
    async function expectProgress(): Promise<void> {
      const status = async (): Promise<BystanderStatus> =>
        (await lab.askGuest(bystander, { op: 'status' })) as BystanderStatus;
      const before = await status();
      await lab.until(async () => {
        const now = await status();
        return now.blk > before.blk + 1 && now.net > before.net + 1 && now.rng > before.rng + 1;
      });
    }

    it(
      `${KILLS} kills: the other domU goes on, nothing of the dead is left, nothing that was flushed is lost`,
      { timeout: 15_000 + KILLS * 5000 },
      async () => {
        for (let kill = 0; kill < KILLS; kill += 1) {
          const before = await lab.inventory();
          const victim = await lab.create(writer());
          if (prng.below(4) === 0) await lab.untilSaid(victim, 'booting');
          else await lab.untilSaid(victim, 'flushed', 1 + prng.below(FLUSHES_MAX));
          await aMoment(prng, TURNS_MAX);
          await lab.kill(victim);
          lab.noteFlushed(victim, acknowledged);
          await expectProgress();
          await lab.ask({ op: 'destroy', domain: victim });
          expect(await lab.inventory(), `after kill ${kill}`).toEqual(before);
        }
      },
    );

    it('a guest that follows finds all of it and powers off cleanly, and so does the other domU', async () => {
      const successor = await lab.createAndBoot(writer());
      expect(lab.said(successor)).toContainEqual({ kind: 'verified' });
      for (const domain of [successor, bystander]) {
        expect(await lab.ask({ op: 'shutdown', domain, timeoutMs: SHUTDOWN_TIMEOUT_MS })).toBe(true);
        expect(lab.said(domain).at(-1)).toEqual({ kind: 'leaks', leaks: [] });
      }
      expect(await lab.ask({ op: 'end' })).toEqual([]);
    });
  },
);
