import type { DomId } from '@virtlab/abi/brands';
import { linuxFfi, openFdCount } from '@virtlab/linux';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type ProcessMachine, createProcessMachine } from './process-machine.ts';
import type { Order, Sight } from './testing/orders.ts';

const ffi = linuxFfi();
if (!ffi.available && process.env['VIRTLAB_REQUIRE_PEERS'] === '1') throw new Error(ffi.reason);

describe.skipIf(!ffi.available)('a machine of processes', () => {
  let machine: ProcessMachine;
  let fds: number;
  const ended: string[] = [];
  const up = new Set<DomId>();

  beforeEach(() => {
    ended.length = 0;
    up.clear();
    fds = openFdCount();
    machine = createProcessMachine({
      entry: new URL('./testing/scripted-domain.ts', import.meta.url),
      onConsole: (domain) => up.add(domain),
      onDomainEnd: (domain, reason, detail) => ended.push(`${domain} ${reason}: ${detail}`),
    });
  });

  afterEach(async () => {
    await machine.close();
    expect(machine.hypervisor.leaks()).toEqual([]);
    await vi.waitFor(() => expect(openFdCount()).toBe(fds));
  });

  async function start(name: string): Promise<DomId> {
    const domain = machine.hypervisor.createDomain({ name, type: 'pv', ramSize: 1 << 20 });
    machine.hypervisor.unpauseDomain(
      domain,
      { module: '', args: null },
      { xenstoreFrame: 0, xenstorePort: 0 },
    );
    await vi.waitFor(() => expect(up).toContain(domain), { timeout: 10_000 });
    return domain;
  }

  const tell = (domain: DomId, order: Order): Promise<unknown> => machine.request(domain, order);
  const look = async (domain: DomId, index = 1): Promise<Sight> =>
    (await tell(domain, { order: 'look', index })) as Sight;

  it('runs domains that share memory and wake one another, and answers their hypercalls', async () => {
    const dom0 = await start('dom0');
    const domU = await start('u');
    expect(await tell(domU, { order: 'call', op: 'domain_info', args: [] })).toHaveLength(1);
    await expect(tell(domU, { order: 'map', domain: dom0, access: 'memory' })).rejects.toThrow('EPERM');
    await tell(dom0, { order: 'map', domain: domU, access: 'memory' });
    await tell(dom0, { order: 'poke', domain: domU, index: 1, value: 4711 });
    await tell(dom0, { order: 'poke', domain: domU, index: 0, value: 1 });
    await vi.waitFor(async () => expect(await look(domU)).toMatchObject({ value: 4711, rings: 1 }));
  });

  it('notices a killed process at once, tells who had mapped it, and lives on', async () => {
    const dom0 = await start('dom0');
    const domU = await start('u');
    await tell(dom0, { order: 'map', domain: domU, access: 'memory' });
    const pid = machine.hypervisor.domains().find((info) => info.domain === domU)!.pid!;
    process.kill(pid, 'SIGKILL');
    await vi.waitFor(() => expect(ended).toHaveLength(1));
    expect(ended[0]).toMatch(/^1 crash: /);
    await vi.waitFor(async () => expect((await look(dom0)).gone).toEqual([domU]));
    await expect(tell(domU, { order: 'look', index: 0 })).rejects.toThrow('ESRCH');
  });

  it('ends a domain whose process exits, and one that is destroyed', async () => {
    const dom0 = await start('dom0');
    const [a, b] = [await start('a'), await start('b')];
    await tell(a, { order: 'call', op: 'domain_shutdown', args: ['poweroff'] });
    await tell(a, { order: 'exit', code: 0 }).catch(() => {});
    await vi.waitFor(() => expect(ended).toHaveLength(1));
    expect(ended[0]).toMatch(/^1 poweroff: /);
    await tell(dom0, { order: 'call', op: 'domain_destroy', args: [b] });
    expect(ended[1]).toBe('2 poweroff: Destroyed by domain 0');
  });

  it('answers nonsense on the hypercall socket with an error, not with its own end', async () => {
    const dom0 = await start('dom0');
    await expect(tell(dom0, { order: 'call', op: 'no_such', args: [] })).rejects.toThrow('ENOSYS');
    await expect(tell(dom0, { order: 'call', op: 'map_domain', args: [{}, null] })).rejects.toThrow('EINVAL');
    expect(await look(dom0)).toMatchObject({ rings: 0 });
  });
});
