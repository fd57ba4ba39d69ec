import { type GrantHandle, type GrantRef, domId, grantRef } from '@virtlab/abi/brands';
import {
  GNTST_bad_domain,
  GNTST_general_error,
  GNTST_okay,
  GTF_PWT,
  GTF_permit_access,
  GTF_reading,
  GTF_readonly,
  GTF_writing,
} from '@virtlab/abi/grant-table';
import { DOMID_FIRST_RESERVED } from '@virtlab/abi/xen';
import { describe, expect, it, vi } from 'vitest';
import { DOMID_SHIFT } from './entries.ts';
import { isGrantedTo, releasePinsOf, seedGrant } from './held-entries.ts';
import { createGrantMapper } from './grant-mapper.ts';
import { createGrantTable } from './grant-table.ts';
import { createTestMachine, testView } from './testing.ts';

const SELF = domId(3);

/** Runs `body` while another party changes the word right before each of the next compare-and-exchanges. */
function interfering(
  times: number,
  change: (words: Int32Array, index: number) => void,
  body: () => void,
): number {
  const original = Atomics.compareExchange.bind(Atomics) as (...args: unknown[]) => number;
  let left = times;
  let calls = 0;
  const spy = vi.spyOn(Atomics, 'compareExchange').mockImplementation(((...args: [Int32Array, number]) => {
    calls += 1;
    if (left > 0) {
      left -= 1;
      change(args[0], args[1]);
    }
    return original(...args);
  }) as never);
  try {
    body();
  } finally {
    spy.mockRestore();
  }
  return calls;
}

/** Flips an attribute of the granter's that matters to nobody. */
const flipAttribute = (words: Int32Array, index: number): void => void Atomics.xor(words, index, GTF_PWT);

describe('an entry that changes under the compare-and-exchange (Xen _set_status_v1)', () => {
  it.each([
    { times: 1, calls: 2, isMapped: true },
    { times: 4, calls: 5, isMapped: true },
    { times: 5, calls: 5, isMapped: false },
    { times: 1000, calls: 5, isMapped: false },
  ])('$times changes: mapped is $isMapped after $calls tries', ({ times, calls, isMapped }) => {
    const { granter, mappers } = createTestMachine();
    const { mapper, domain } = mappers[0]!;
    const ref = granter.table.grantAccess(domain, 1, false) as GrantRef;
    let result = 0;
    const made = interfering(times, flipAttribute, () => void (result = mapper.map(SELF, ref, true)));
    expect(made).toBe(calls);
    expect(isMapped ? mapper.unmap(result as GrantHandle) : result).toBe(
      isMapped ? GNTST_okay : GNTST_general_error,
    );
    expect(mapper.live()).toEqual([]);
    expect(granter.table.endAccess(ref)).toBe(true);
  });

  it('type, domain and write permission are checked again on every try', () => {
    const changes = [
      (word: number) => word & ~GTF_permit_access,
      (word: number) => word | (7 << DOMID_SHIFT),
      (word: number) => word | GTF_readonly,
    ];
    for (const change of changes) {
      const { granter, mappers } = createTestMachine();
      const { mapper, domain } = mappers[0]!;
      const ref = granter.table.grantAccess(domain, 1, false) as GrantRef;
      let result = 0;
      const set = (words: Int32Array, index: number): void => void (words[index] = change(words[index]!));
      interfering(1, set, () => void (result = mapper.map(SELF, ref, true)));
      expect(result).toBe(GNTST_general_error);
      expect(granter.table.isInUse(ref)).toBe(false);
    }
  });

  it('endAccess sees a mapper that comes between, and gives up on a word that never rests', () => {
    const { granter, mappers } = createTestMachine();
    const ref = granter.table.grantAccess(mappers[0]!.domain, 1, false) as GrantRef;
    const pin = (words: Int32Array, index: number): void => void Atomics.or(words, index, GTF_reading);
    let hasEnded = true;
    interfering(1, pin, () => void (hasEnded = granter.table.endAccess(ref)));
    expect(hasEnded).toBe(false);
    expect(releasePinsOf(granter.view, mappers[0]!.domain)).toBe(1);
    expect(interfering(1000, flipAttribute, () => void (hasEnded = granter.table.endAccess(ref)))).toBe(5);
    expect(hasEnded).toBe(false);
    expect(interfering(4, flipAttribute, () => void (hasEnded = granter.table.endAccess(ref)))).toBe(5);
    expect(hasEnded).toBe(true);
  });
});

describe('a peer that goes and comes', () => {
  it('a new domain under an old number is another table: old mappings do not touch it', () => {
    const { granter, mappers, tables } = createTestMachine();
    const { mapper, domain } = mappers[0]!;
    const ref = granter.table.grantAccess(domain, 1, false) as GrantRef;
    const old = mapper.map(SELF, ref, true) as GrantHandle;
    tables.delete(SELF);
    expect(mapper.map(SELF, ref, true)).toBe(GNTST_bad_domain);
    const view = testView(1);
    tables.set(SELF, view);
    const table = createGrantTable({ domain: SELF, view, reservedCount: 8 });
    const again = table.grantAccess(domain, 2, false) as GrantRef;
    expect(again).toBe(ref);
    const fresh = mapper.map(SELF, again, true) as GrantHandle;
    expect(mapper.frame).toBe(2);
    expect(mapper.unmap(old)).toBe(GNTST_okay);
    expect(table.isInUse(again)).toBe(true);
    expect(granter.table.isInUse(ref), 'the table of the dead domain').toBe(true);
    expect(mapper.live()).toEqual([{ handle: fresh, domain: SELF, ref: again, writable: true }]);
    expect(mapper.unmap(fresh)).toBe(GNTST_okay);
    expect(table.endAccess(again)).toBe(true);
  });

  it('any number of domains may come and go', () => {
    const views = new Map<number, ReturnType<typeof testView>>();
    const mapper = createGrantMapper({
      domain: SELF,
      peers: { table: (peer) => views.get(peer) },
      mapCountMax: 4,
    });
    const view = testView(1);
    for (let id = 10; id < 10 + 0x9000; id += 257) {
      const domain = domId(id % DOMID_FIRST_RESERVED);
      views.clear();
      views.set(domain, { ...view });
      seedGrant(view, grantRef(0), SELF, 1);
      const handle = mapper.map(domain, grantRef(0), true) as GrantHandle;
      expect(handle).toBe(0);
      if (id % 2 === 0) views.clear();
      expect(mapper.unmap(handle)).toBe(GNTST_okay);
    }
    expect(mapper.live()).toEqual([]);
  });
});

describe('for the hypervisor and the builder of domains', () => {
  it('isGrantedTo tells whether a domain may reach anything, reserved references included', () => {
    const { granter, mappers } = createTestMachine();
    const [first, second] = mappers.map(({ domain }) => domain);
    expect(isGrantedTo(granter.view, first!)).toBe(false);
    const ref = granter.table.grantAccess(first!, 1, true) as GrantRef;
    expect([first!, second!].map((domain) => isGrantedTo(granter.view, domain))).toEqual([true, false]);
    seedGrant(granter.view, grantRef(1), second!, 0);
    expect(isGrantedTo(granter.view, second!)).toBe(true);
    expect(granter.table.endAccess(ref)).toBe(true);
    expect(isGrantedTo(granter.view, first!)).toBe(false);
  });

  it('releasePinsOf clears the in-use bits of one domain and leaves the grants', () => {
    const { granter, mappers } = createTestMachine();
    const [dead, alive] = mappers;
    const refs = [1, 2, 3].map((frame) => granter.table.grantAccess(dead!.domain, frame, false) as GrantRef);
    const other = granter.table.grantAccess(alive!.domain, 4, false) as GrantRef;
    for (const ref of refs.slice(1)) dead!.mapper.map(SELF, ref, true);
    alive!.mapper.map(SELF, other, false);
    expect(releasePinsOf(granter.view, dead!.domain)).toBe(2);
    expect(releasePinsOf(granter.view, dead!.domain)).toBe(0);
    expect(refs.map((ref) => granter.table.isInUse(ref))).toEqual([false, false, false]);
    expect(granter.table.isInUse(other)).toBe(true);
    expect(granter.table.live()).toHaveLength(4);
  });

  it('releasePinsOf leaves an entry that its granter gave to another domain meanwhile', () => {
    const { granter, mappers } = createTestMachine();
    const [dead, alive] = mappers;
    const ref = granter.table.grantAccess(dead!.domain, 1, false) as GrantRef;
    dead!.mapper.map(SELF, ref, true);
    const flags = GTF_permit_access | GTF_reading | GTF_writing;
    const regrant = (words: Int32Array, index: number): void =>
      void (words[index] = flags | (alive!.domain << DOMID_SHIFT));
    let released = -1;
    interfering(1, regrant, () => void (released = releasePinsOf(granter.view, dead!.domain)));
    expect(released).toBe(0);
    expect(granter.table.isInUse(ref)).toBe(true);
  });

  it.each([
    ['a reference beyond the table', 1024, 0, 0],
    ['a reserved domain', 0, DOMID_FIRST_RESERVED, 0],
    ['a frame outside the RAM', 0, 0, 64],
  ])('seedGrant throws RangeError for %s', (_name, ref, domain, frame) => {
    const view = testView(2);
    expect(() => seedGrant(view, grantRef(ref), domId(domain), frame)).toThrow(RangeError);
    expect(view.table.u32.every((word) => word === 0)).toBe(true);
  });
});

describe('misuse', () => {
  it('views, counts and sizes that cannot be are refused', () => {
    const view = testView(2);
    const make = (changed: object, reservedCount = 8) =>
      createGrantTable({ domain: SELF, view: { ...view, ...changed }, reservedCount });
    expect(() => make({ frameCount: 4 })).toThrow(RangeError);
    expect(() => make({ tableOffset: 4 })).toThrow(RangeError);
    expect(() => make({}, -1)).toThrow(RangeError);
    expect(() => make({}, 1025)).toThrow(RangeError);
    expect(make({}, 1024).grantAccess(SELF, 0, false)).toBe(-1);
    const peers = { table: () => undefined };
    expect(() => createGrantMapper({ domain: SELF, peers, mapCountMax: 0 })).toThrow(RangeError);
  });
});
