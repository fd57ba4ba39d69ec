import type { DomId } from '@virtlab/abi/brands';
import { createPrng } from '@virtlab/aio';
import type { DeviceBus } from '@virtlab/domain';
import { linuxFfi } from '@virtlab/linux';
import { describe, expect, it } from 'vitest';
import { MortalMachine, SEED } from './testing/mortal-machine.ts';
import { ScratchImages, aMoment } from './testing/scratch-images.ts';
import type { Ending, GuestSpec, MournerArguments, WriterArguments } from './mortality/messages.ts';
import { BLOCK_COUNT } from './mortality/numbered-disk.ts';

const ffi = linuxFfi();
if (!ffi.available && process.env['VIRTLAB_REQUIRE_PEERS'] === '1') throw new Error(ffi.reason);

/** No deadline of a driver or a transport is as short, so what ends within it was told, and did not time out. */
const PROMPT_MS = 4000;
const SHORT_TIMEOUT_MS = 300;

const GONE = {
  disk: { name: 'BlkError', code: 'ENODEV', message: /device gone/ },
  control: { name: 'TransportError', code: 'ENODEV', message: /removed|does not answer|backend/ },
  'a read that the device holds': {
    name: 'BlkError',
    code: 'ENODEV',
    message: /read of 512 bytes.*device gone/,
  },
  entropy: { name: 'TransportError', code: 'ENODEV', message: /device gone/ },
  frames: { name: 'NetError', code: 'ENODEV', message: /device gone/ },
  xenstore: { name: 'XenstoreError', code: 'EIO', message: /READ/ },
  'the connection to xenstore': { name: 'Error', code: '', message: /closed/ },
} as const;

function mourner(bus: DeviceBus, args: Partial<MournerArguments> = {}): GuestSpec {
  return {
    name: 'mourner',
    bus,
    role: 'mourner',
    args: { timeoutMs: 30_000, onlyBounded: false, ...args } satisfies MournerArguments,
    devices: [{ kind: 'blk', stalledSectors: 8 }, { kind: 'net', mac: 1 }, { kind: 'rng' }],
  };
}

async function endings(lab: MortalMachine, domain: DomId): Promise<readonly Ending[]> {
  let found: readonly Ending[] | undefined;
  const asked = lab.askGuest(domain, { op: 'endings' }).then((answer) => {
    found = answer as readonly Ending[];
  });
  await lab.until(() => found !== undefined, PROMPT_MS);
  await asked;
  return found!;
}

/** What the domU still holds once it has let go of the devices it lost. */
async function bury(lab: MortalMachine, domain: DomId): Promise<readonly string[]> {
  let left: readonly string[] | undefined;
  const asked = lab.askGuest(domain, { op: 'bury' }).then((answer) => {
    left = answer as readonly string[];
  });
  await lab.until(() => left !== undefined, PROMPT_MS);
  await asked;
  return left!;
}

describe.skipIf(!ffi.available).each(['pci', 'xenbus'] as const)(
  `domain 0 dies, %s (seed ${SEED})`,
  (bus) => {
    const prng = createPrng(SEED);

    it('during I/O: every operation of a domU ends at once and says why, nothing is left, the machine goes on', async () => {
      await using lab = await MortalMachine.start();
      const domU = await lab.createAndBoot(mourner(bus));
      await aMoment(prng, 400);
      await lab.kill(lab.dom0);
      const found = await endings(lab, domU);
      for (const { operation, name, code, message } of found) {
        const expected = GONE[operation as keyof typeof GONE];
        expect({ operation, name, code, message }).toMatchObject({
          operation,
          name: expected.name,
          code: expected.code,
          message: expect.stringMatching(expected.message) as unknown,
        });
      }
      expect(found.map(({ operation }) => operation).toSorted()).toEqual(Object.keys(GONE).toSorted());
      expect(await bury(lab, domU)).toEqual([]);
      expect(lab.machine.hypervisor.domains().map(({ domain }) => domain)).toEqual([domU]);
      expect(await lab.close()).toEqual([]);
    });

    it('while a domU connects its devices: that fails at once, nothing is left', async () => {
      await using lab = await MortalMachine.start();
      const domU = await lab.create(mourner(bus));
      await lab.untilSaid(domU, 'booting');
      await aMoment(prng, 60);
      await lab.kill(lab.dom0);
      await lab.untilSaid(domU, 'up');
      const found = await endings(lab, domU);
      for (const { code } of found) expect(['ENODEV', 'EIO']).toContain(code);
      expect(await bury(lab, domU)).toEqual([]);
      expect(await lab.close()).toEqual([]);
    });

    it('with a disk in use: what was flushed is in the image', async () => {
      using images = new ScratchImages();
      const image = images.create('disk.img');
      const acknowledged = Array.from({ length: BLOCK_COUNT }, () => 0);
      const writer = (): GuestSpec => {
        const args: WriterArguments = { seed: prng.next(), acknowledged, mac: 1 };
        return {
          name: 'w',
          bus,
          role: 'writer',
          args,
          devices: [
            { kind: 'blk', image: { path: image } },
            { kind: 'net', mac: 1 },
          ],
        };
      };
      await using first = await MortalMachine.start();
      const victim = await first.create(writer());
      first.doomed.add(victim);
      await first.untilSaid(victim, 'flushed', 2 + prng.below(6));
      await first.kill(first.dom0);
      first.noteFlushed(victim, acknowledged);
      expect(await first.close()).toEqual([]);
      await using second = await MortalMachine.start();
      await second.untilSaid(await second.create(writer()), 'verified');
      expect(await second.close()).toEqual([]);
    });
  },
);

describe.skipIf(!ffi.available).each(['pci', 'xenbus'] as const)(
  'a domain that does not answer, %s',
  (bus) => {
    it('domain 0: a driver stops waiting and names what it waited for; when it goes on, so do the others', async () => {
      await using lab = await MortalMachine.start();
      const devices = [{ kind: 'blk' }, { kind: 'net', mac: 2 }, { kind: 'rng' }] as const;
      const patient = await lab.createAndBoot({ name: 'patient', bus, role: 'bystander', devices });
      const domU = await lab.createAndBoot(mourner(bus, { timeoutMs: SHORT_TIMEOUT_MS, onlyBounded: true }));
      lab.signal(lab.dom0, 'SIGSTOP');
      const found = new Map((await endings(lab, domU)).map((each) => [each.operation, each]));
      expect(found.get('disk')).toMatchObject({
        code: 'ETIMEDOUT',
        message: expect.stringMatching(
          /(read|write) of 4096 bytes at sector \d+ .*not completed within 300 ms/,
        ) as unknown,
      });
      // A register that does not answer reads all ones, as that of a function that was pulled out.
      expect(found.get('control')?.message).toMatch(
        bus === 'pci' ? /ENODEV: .*does not answer/ : /ETIMEDOUT: Status 0x\w+ did not finish within 300 ms/,
      );
      const before = (await lab.askGuest(patient, { op: 'status' })) as { blk: number };
      lab.signal(lab.dom0, 'SIGCONT');
      await lab.until(
        async () => ((await lab.askGuest(patient, { op: 'status' })) as { blk: number }).blk > before.blk + 2,
      );
      expect(await lab.ask({ op: 'shutdown', domain: patient, timeoutMs: 5000 })).toBe(true);
      expect(lab.said(patient).at(-1)).toEqual({ kind: 'leaks', leaks: [] });
      expect(await lab.close()).toEqual([]);
    });

    it('a domU: the others go on, and it can be destroyed', async () => {
      await using lab = await MortalMachine.start();
      const devices = [{ kind: 'blk' }, { kind: 'net', mac: 1 }, { kind: 'rng' }] as const;
      const alive = await lab.createAndBoot({ name: 'alive', bus, role: 'bystander', devices });
      const before = await lab.inventory();
      const frozen = await lab.createAndBoot({
        name: 'frozen',
        bus,
        role: 'bystander',
        devices: [devices[0], { kind: 'net', mac: 2 }, devices[2]],
      });
      lab.signal(frozen, 'SIGSTOP');
      const at = (await lab.askGuest(alive, { op: 'status' })) as { blk: number };
      await lab.until(
        async () => ((await lab.askGuest(alive, { op: 'status' })) as { blk: number }).blk > at.blk + 10,
      );
      expect(await lab.ask({ op: 'shutdown', domain: frozen, timeoutMs: 50 })).toBe(false);
      expect(lab.ended.get(frozen)).toBe('Destroyed by domain 0');
      expect(await lab.inventory()).toEqual(before);
      expect(await lab.ask({ op: 'shutdown', domain: alive, timeoutMs: 5000 })).toBe(true);
      expect(await lab.close()).toEqual([]);
    });
  },
);
