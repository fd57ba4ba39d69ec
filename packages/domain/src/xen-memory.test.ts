import { type DomId, domId, grantRef } from '@virtlab/abi/brands';
import { XEN_GRANT_DMA_ADDR_OFF } from '@virtlab/abi/grant-table';
import { XEN_PAGE_SHIFT, XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import { describe, expect, it } from 'vitest';
import type { Domain } from './domain.ts';
import { createLocalSystem } from './testing/local-system.ts';
import { createXenMemory } from './xen-memory.ts';

const FRAME = 5;

interface Machine {
  readonly dom0: Domain;
  /** A device's, without privilege. */
  readonly device: Domain;
  readonly ours: Domain;
  readonly others: Domain;
}

/** Two domains that granted the same page to domain 0 and to the device, each with a byte of its own in it. */
async function withMachine(body: (machine: Machine) => Promise<void>): Promise<void> {
  const system = await createLocalSystem();
  const [device, ours, others] = [
    (await system.addGuest('device', 'pv')).domain,
    (await system.addGuest('ours', 'pv')).domain,
    (await system.addGuest('others', 'pv')).domain,
  ];
  const refs = [ours, others].flatMap(({ grants, ram, id }) => {
    ram.u8[FRAME * XEN_PAGE_SIZE] = id;
    return [system.dom0.id, device.id].map((to) => {
      const ref = grants.grantAccess(to, FRAME, false);
      if (ref < 0) throw new Error('no grant is free');
      return { grants, ref: grantRef(ref) };
    });
  });
  await body({ dom0: system.dom0, device, ours, others });
  for (const { grants, ref } of refs) expect(grants.endAccess(ref)).toBe(true);
  expect(await system.close()).toEqual([]);
}

/** The byte that is found at what a domain granted; undefined where nothing can be reached. */
async function grantedByte(own: Domain, domids: readonly DomId[], from: Domain): Promise<number | undefined> {
  const memory = await createXenMemory(own, { domids, foreign: true }).grantsOf(from.id);
  if (memory === undefined) return undefined;
  const ref = from.grants.live().find(({ domain }) => domain === own.id)!.ref;
  const address = XEN_GRANT_DMA_ADDR_OFF + (BigInt(ref) << BigInt(XEN_PAGE_SHIFT));
  const area = memory.mapArea(address, 8, 8, true);
  if (typeof area === 'number') throw new Error(`not mapped: ${area}`);
  const byte = area.region.u8[area.offset];
  memory.unmapArea(area);
  return byte;
}

describe('XEN_MMAP: a peer reaches memory of the domains that it speaks for, and of no other', () => {
  it('grants of a domain that is named, in domain 0 as in another', async () => {
    await withMachine(async ({ dom0, device, ours, others }) => {
      for (const own of [dom0, device]) {
        expect(await grantedByte(own, [ours.id], ours)).toBe(ours.id);
        expect(await grantedByte(own, [ours.id], others)).toBeUndefined();
        expect(await grantedByte(own, [], ours)).toBeUndefined();
        expect(await grantedByte(own, [ours.id, others.id], others)).toBe(others.id);
      }
    });
  });

  it('RAM of a domain that is named, if that is asked for, from domain 0', async () => {
    await withMachine(async ({ dom0, device, ours, others }) => {
      const domids = [ours.id, dom0.id];
      const all = createXenMemory(dom0, { domids, foreign: true });
      expect((await all.ramOf(ours.id))?.u8[FRAME * XEN_PAGE_SIZE]).toBe(ours.id);
      expect(await all.ramOf(others.id), 'a domain that is not named').toBeUndefined();
      expect(await all.ramOf(dom0.id), "domain 0's own").toBeUndefined();
      expect(await createXenMemory(dom0, { domids }).ramOf(ours.id), 'not asked for').toBeUndefined();
      expect(await createXenMemory(device, { domids, foreign: true }).ramOf(ours.id)).toBeUndefined();
    });
  });

  it('a domain that is named and is not there: nothing', async () => {
    await withMachine(async ({ dom0 }) => {
      const nobody = domId(99);
      const xen = createXenMemory(dom0, { domids: [nobody], foreign: true });
      expect([await xen.grantsOf(nobody), await xen.ramOf(nobody)]).toEqual([undefined, undefined]);
    });
  });
});
