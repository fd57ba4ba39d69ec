import { type DomId, type GrantHandle, type GrantRef, domId } from '@virtlab/abi/brands';
import { GNTCOPY_source_gref, GNTST_okay } from '@virtlab/abi/grant-table';
import { DOMID_SELF } from '@virtlab/abi/xen';
import { createAioContext } from '@virtlab/aio';
import { GrantCopyList } from '@virtlab/grant-table';
import { PAGE_SIZE, createLocalMachine } from '@virtlab/hypervisor';
import { expect, it, vi } from 'vitest';
import type { Domain } from './domain.ts';
import { runProgram } from './program.ts';
import { XENSTORE_GRANT, seedXenstoreGrant, xenstoreFrameOf } from './start-of-day.ts';

const MODULE = 'data:text/javascript,export function boot() {}';
const RAM_SIZE = 1 << 20;

it('a domain boots with a version 2 table: what its builder granted is kept, and it grants parts of pages', async () => {
  const booted = new Map<DomId, Domain>();
  const machine = createLocalMachine({
    launch: async (connection) => {
      booted.set(connection.domain, await runProgram(connection, createAioContext()));
    },
  });
  const { hypervisor } = machine;
  const start = async (domain: DomId, grantVersion?: 2): Promise<Domain> => {
    const startInfo = { xenstoreFrame: 0, xenstorePort: 0 as const };
    hypervisor.unpauseDomain(domain, { module: MODULE, args: null, grantVersion }, startInfo);
    return await vi.waitFor(() => {
      const found = booted.get(domain);
      if (found === undefined) throw new Error(`Domain ${domain} is not up`);
      return found;
    });
  };
  const dom0 = await start(hypervisor.createDomain({ name: 'dom0', type: 'pv', ramSize: RAM_SIZE }));
  const guest = await dom0.connection.call('domain_create', {
    name: 'u',
    type: 'pv',
    ramSize: RAM_SIZE,
    grantLimits: { maptrackFrameCountMax: 1 },
  });
  seedXenstoreGrant(await dom0.mapDomain(guest), domId(0));
  const ring = dom0.grantMapper.map(guest, XENSTORE_GRANT, true) as GrantHandle;

  const domU = await start(guest, 2);
  expect([dom0.grants.version, domU.grants.version]).toEqual([1, 2]);
  expect(dom0.grantMapper.map(guest, XENSTORE_GRANT, true)).toBeGreaterThan(ring);
  expect(dom0.grantMapper.frame).toBe(xenstoreFrameOf(RAM_SIZE));

  domU.ram.u8.fill(0x33, 5 * PAGE_SIZE, 6 * PAGE_SIZE);
  const ref = domU.grants.grantSubPage(dom0.id, 5, 100, 20, true) as GrantRef;
  const list = new GrantCopyList(2);
  list.push(GNTCOPY_source_gref, guest, ref, 100, DOMID_SELF, 2, 0, 20);
  list.push(GNTCOPY_source_gref, guest, ref, 90, DOMID_SELF, 2, 0, 20);
  expect(dom0.grantMapper.copy(list)).toBe(1);
  expect([list.status[0], dom0.ram.u8[2 * PAGE_SIZE + 19]]).toEqual([GNTST_okay, 0x33]);
  for (const { handle } of dom0.grantMapper.live()) expect(dom0.grantMapper.unmap(handle)).toBe(GNTST_okay);
  expect(domU.grants.endAccess(ref)).toBe(true);
  expect([...domU.leaks(), ...dom0.leaks()]).toEqual([]);
});
