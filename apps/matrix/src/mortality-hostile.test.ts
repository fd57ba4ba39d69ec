import type { DomId } from '@virtlab/abi/brands';
import { createPrng } from '@virtlab/aio';
import type { DeviceBus } from '@virtlab/domain';
import { linuxFfi } from '@virtlab/linux';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { MortalMachine, SEED } from './testing/mortal-machine.ts';
import {
  type BystanderStatus,
  type DeviceSpec,
  FUZZ_AREAS,
  type FuzzerArguments,
  type Inventory,
  type Role,
} from './mortality/messages.ts';

const ffi = linuxFfi();
if (!ffi.available && process.env['VIRTLAB_REQUIRE_PEERS'] === '1') throw new Error(ffi.reason);

const ROUNDS = Number(process.env['VIRTLAB_FUZZ_ROUNDS'] ?? 400);
const CHEATS = {
  pci: ['outside'],
  xenbus: ['revoked', 'foreign', 'outside'],
  'xenbus-register-page': ['outside'],
} as const;

describe.skipIf(!ffi.available).each(['pci', 'xenbus'] as const)('a hostile domU, %s', (bus: DeviceBus) => {
  const prng = createPrng(SEED);
  let lab: MortalMachine;
  let bystander: DomId;
  let before: Inventory;

  beforeAll(async () => {
    lab = await MortalMachine.start();
    const devices = [{ kind: 'blk' }, { kind: 'net', mac: 1 }, { kind: 'rng' }] as const;
    bystander = await lab.createAndBoot({ name: 'bystander', bus, role: 'bystander', devices });
  });

  beforeEach(async () => {
    before = await lab.inventory();
  });

  afterAll(async () => {
    expect(await lab.ask({ op: 'shutdown', domain: bystander, timeoutMs: 5000 })).toBe(true);
    expect(lab.said(bystander).at(-1)).toEqual({ kind: 'leaks', leaks: [] });
    expect(await lab.ask({ op: 'end' })).toEqual([]);
    expect(await lab.close()).toEqual([]);
  });

  async function start(role: Role, devices: readonly DeviceSpec[], args?: unknown): Promise<DomId> {
    return await lab.createAndBoot({ name: role, bus, role, devices, args });
  }

  /** The other domU works on, each byte as it should be; the hostile one is destroyed. Answers what is held now. */
  async function takeDown(hostile: DomId): Promise<Inventory> {
    const status = async (): Promise<BystanderStatus> =>
      (await lab.askGuest(bystander, { op: 'status' })) as BystanderStatus;
    const at = await status();
    await lab.until(async () => {
      const now = await status();
      return now.blk > at.blk + 1 && now.net > at.net + 1 && now.rng > at.rng + 1;
    });
    await lab.ask({ op: 'destroy', domain: hostile });
    return await lab.inventory();
  }

  it.each(FUZZ_AREAS[bus])(`garbage in its %s harms nobody else (seed ${SEED})`, async (area) => {
    const args: FuzzerArguments = { seed: prng.next(), area, rounds: ROUNDS };
    const fuzzer = await start('fuzzer', [{ kind: 'blk' }, { kind: 'net', mac: 2 }, { kind: 'rng' }], args);
    lab.doomed.add(fuzzer);
    await lab.until(() => lab.ended.has(fuzzer) || lab.said(fuzzer).some(({ kind }) => kind === 'fuzzed'));
    expect(await takeDown(fuzzer)).toEqual(before);
  });

  it.each(CHEATS[bus])(
    'a buffer whose address is %s: that device needs reset, and works after one',
    async (how) => {
      const cheat = await start('cheat', [{ kind: 'blk' }, { kind: 'rng' }]);
      expect(await lab.askGuest(cheat, { op: 'cheat', how })).toEqual({
        error: 'ENODEV: device needs reset',
        neighbour: 'works',
        afterReset: 'works',
      });
      expect(await takeDown(cheat)).toEqual(before);
    },
  );

  it('a full disk is an I/O error to its driver, which goes on', async () => {
    const image = { path: '/dev/full', capacitySectors: 64 };
    const domU = await start('cheat', [{ kind: 'blk', image }, { kind: 'rng' }]);
    expect(await lab.askGuest(domU, { op: 'write' })).toEqual([
      expect.stringMatching(/^IOERR: write of 512 bytes at sector 0 failed/),
      'ok',
    ]);
    expect(await takeDown(domU)).toEqual(before);
  });
});
