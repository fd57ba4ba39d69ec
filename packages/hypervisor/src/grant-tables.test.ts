import { domId, grantRef } from '@virtlab/abi/brands';
import {
  GNTCOPY_source_gref,
  GNTST_bad_domain,
  GNTST_general_error,
  GNTST_okay,
  GNTST_permission_denied,
  GNTTAB_NR_RESERVED_ENTRIES,
} from '@virtlab/abi/grant-table';
import { DOMID_SELF } from '@virtlab/abi/xen';
import { GrantCopyList, createGrantMapper, createGrantTable, seedGrant } from '@virtlab/grant-table';
import { describe, expect, it } from 'vitest';
import type { HypervisorConnection } from './connection.ts';
import { PAGE_SIZE, XEN_PAGES } from './domain-memory.ts';
import { grantTableOf } from './grant-tables.ts';
import type { DomainConfig } from './hypercalls.ts';
import { createLocalMachine } from './local.ts';

function rig() {
  const machine = createLocalMachine({ launch: () => {} });
  const add = async (grantLimits?: DomainConfig['grantLimits']): Promise<HypervisorConnection> => {
    const domain = machine.hypervisor.createDomain({ name: 'd', type: 'pv', ramSize: 1 << 20, grantLimits });
    machine.hypervisor.unpauseDomain(
      domain,
      { module: '', args: null },
      { xenstoreFrame: 0, xenstorePort: 0 },
    );
    await Promise.resolve();
    return machine.connection(domain)!;
  };
  return { machine, add };
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  return await promise.then(
    () => 'no error',
    (error: unknown) => (error as { code: string }).code,
  );
}

describe('grant table hypercalls', () => {
  it('GNTTABOP_setup_table and query_size: as large as the limits allow, and where the frames are', async () => {
    const { add } = rig();
    await add();
    const domU = await add({ frameCount: 1, frameCountMax: 3 });
    expect(await domU.call('gnttab_query_size', DOMID_SELF)).toEqual({
      status: GNTST_okay,
      frameCount: 1,
      frameCountMax: 3,
    });
    const first = XEN_PAGES.grantTable / PAGE_SIZE;
    expect(await domU.call('gnttab_setup_table', domU.domain, 2)).toEqual({
      status: 0,
      frames: [first, first + 1],
    });
    expect(await domU.call('gnttab_setup_table', DOMID_SELF, 4)).toEqual({
      status: GNTST_general_error,
      frames: [],
    });
    expect(await domU.call('gnttab_query_size', DOMID_SELF)).toMatchObject({ frameCount: 2 });
  });

  it('of another domain: GNTST_permission_denied unless privileged, GNTST_bad_domain for one that is not there', async () => {
    const { add } = rig();
    const [dom0, domU] = [await add(), await add()];
    const statuses = async (from: HypervisorConnection, of: number): Promise<readonly number[]> => [
      (await from.call('gnttab_setup_table', domId(of), 1)).status,
      (await from.call('gnttab_query_size', domId(of))).status,
      (await from.call('gnttab_get_status_frames', domId(of), 0)).status,
    ];
    expect(await statuses(dom0, domU.domain)).toEqual([GNTST_okay, GNTST_okay, GNTST_okay]);
    const denied = GNTST_permission_denied;
    expect(await statuses(domU, 0)).toEqual([denied, denied, denied]);
    expect(await statuses(domU, 99)).toEqual([GNTST_bad_domain, GNTST_bad_domain, GNTST_bad_domain]);
    expect(await codeOf(domU.call('gnttab_get_version', domId(0)))).toBe('EPERM');
    expect(await codeOf(domU.call('gnttab_get_version', domId(99)))).toBe('ESRCH');
    expect(await dom0.call('gnttab_get_version', domU.domain)).toBe(1);
  });

  it('GNTTABOP_set_version, get_version and get_status_frames', async () => {
    const { add } = rig();
    await add();
    const domU = await add();
    const old = await add({ versionMax: 1 });
    expect(await codeOf(domU.call('gnttab_set_version', 3))).toBe('EINVAL');
    expect(await codeOf(old.call('gnttab_set_version', 2))).toBe('ENOSYS');
    expect((await domU.call('gnttab_get_status_frames', DOMID_SELF, 1)).status).toBe(GNTST_general_error);
    expect(await domU.call('gnttab_set_version', 2)).toBe(2);
    expect(await domU.call('gnttab_get_version', DOMID_SELF)).toBe(2);
    const status = XEN_PAGES.grantControl.status / PAGE_SIZE;
    expect(await domU.call('gnttab_get_status_frames', DOMID_SELF, 2)).toEqual({
      status: GNTST_okay,
      frames: [status, status + 1],
    });
    const { frames } = await domU.call('gnttab_setup_table', DOMID_SELF, 1);
    expect(frames).toEqual([XEN_PAGES.grantControl.entriesV2 / PAGE_SIZE]);
  });

  it('limits that no domain can have are EINVAL, and nothing is made', async () => {
    const { machine, add } = rig();
    const dom0 = await add();
    const create = (grantLimits: unknown): Promise<unknown> =>
      dom0.call('domain_create', {
        name: 'x',
        type: 'pv',
        ramSize: 1 << 20,
        grantLimits: grantLimits as never,
      });
    for (const bad of [{ frameCountMax: 65 }, { frameCount: 0 }, { versionMax: 3 }, { frameCount: 'x' }, 7])
      expect(await codeOf(create(bad))).toBe('EINVAL');
    expect(machine.hypervisor.domains()).toHaveLength(1);
    expect(await create({ frameCountMax: 4, other: 'ignored' })).toBe(1);
  });

  it('a domain that was passed on something may map the pages of who granted it first, and copy; nobody else may', async () => {
    const { machine, add } = rig();
    await add();
    const [owner, between, to] = [await add(), await add(), await add()];
    await between.call('gnttab_set_version', 2);
    seedGrant(grantTableOf(owner.memory), grantRef(7), between.domain, 5);
    expect(await codeOf(to.mapDomain(owner.domain, 'memory'))).toBe('EPERM');
    const table = createGrantTable({
      domain: between.domain,
      view: grantTableOf(between.memory),
      reservedCount: GNTTAB_NR_RESERVED_ENTRIES,
    });
    const passed = table.grantTransitive(to.domain, owner.domain, grantRef(7), true);
    const views = await Promise.all([owner, between].map((each) => to.mapDomain(each.domain, 'memory')));
    const tables = new Map(
      views.map(({ domain, memory }) => [domain, grantTableOf({ xen: memory.xen, ram: memory.ram! })]),
    );
    const mapper = createGrantMapper({
      domain: to.domain,
      mapCountMax: 4,
      peers: { table: (domain) => tables.get(domain) },
      ram: to.memory.ram,
    });
    owner.memory.ram.u8.fill(0x42, 5 * PAGE_SIZE, 6 * PAGE_SIZE);
    const list = new GrantCopyList(1);
    list.push(GNTCOPY_source_gref, between.domain, passed, 0, DOMID_SELF, 3, 0, 100);
    expect(mapper.copy(list)).toBe(0);
    expect(to.memory.ram.u8[3 * PAGE_SIZE + 99]).toBe(0x42);
    machine.hypervisor.destroyDomain(between.domain, 'poweroff', 'done');
    expect(mapper.copy(list), 'it is the mapper’s business to notice').toBe(0);
    const late = await add();
    expect(await codeOf(late.mapDomain(owner.domain, 'memory'))).toBe('EPERM');
  });
});
