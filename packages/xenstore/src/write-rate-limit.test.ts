import { domId } from '@virtlab/abi/brands';
import { describe, expect, it } from 'vitest';
import { createXenstore } from './create-xenstore.ts';
import { type DomainRecord, DomainTable } from './domain-table.ts';
import { PROFILE_C_4_17 } from './profile-c-4-17.ts';
import { ManualClock } from './manual-clock.ts';
import { WriteRateLimit } from './write-rate-limit.ts';

function limit(): { clock: ManualClock; rate: WriteRateLimit; domain: (domid: number) => DomainRecord } {
  const clock = new ManualClock();
  const table = new DomainTable(() => 0, PROFILE_C_4_17, { ...PROFILE_C_4_17.quotas });
  const rate = new WriteRateLimit(clock);
  const domain = (domid: number): DomainRecord => {
    const record = table.get(domid);
    rate.join(record);
    return record;
  };
  domain(0);
  return { clock, rate, domain };
}

describe('WriteRateLimit', () => {
  it('wrl_domain_new: a newcomer gets ten writes out of a reserve that lends to five domains', () => {
    const { rate, domain } = limit();
    for (const domid of [1, 2, 3, 4]) expect(rate.credit(domain(domid)).own).toBe(10);
    expect(rate.credit(domain(5))).toEqual({ own: 0, reserve: -50 });
  });

  it('wrl_domain_destroy: credit that is left goes to the reserve', () => {
    const { rate, domain } = limit();
    rate.leave(domain(7));
    expect(rate.credit(domain(0)).reserve).toBe(-10);
  });

  it('wrl_apply_debit_actual: ten writes are free, and one more makes a debt that stops the domain', () => {
    const { rate, domain } = limit();
    const guest = domain(5);
    for (let i = 0; i < 10; i++) rate.debit(guest);
    expect(rate.isInDebt(guest)).toBe(false);
    rate.debit(guest);
    expect(rate.isInDebt(guest)).toBe(true);
  });

  it('wrl_credit_update: 200 writes a second are shared by all domains, domain 0 included', () => {
    const { clock, rate, domain } = limit();
    const guest = domain(5);
    for (let i = 0; i < 20; i++) rate.debit(guest);
    expect(rate.credit(guest).own).toBe(-10);
    clock.advance(50);
    expect(rate.credit(guest).own).toBe(-5);
    domain(6);
    domain(7);
    clock.advance(50);
    expect(rate.credit(guest).own).toBe(-2.5);
  });

  it('wrl_check_timeout: a debt is waited off exactly, and onPaid called then', () => {
    const { clock, rate, domain } = limit();
    const guest = domain(5);
    for (let i = 0; i < 13; i++) rate.debit(guest);
    let paid = 0;
    rate.onPaid = () => (paid += 1);
    expect(rate.isInDebt(guest)).toBe(true);
    clock.advance(29);
    expect(paid).toBe(0);
    clock.advance(1);
    expect(paid).toBe(1);
    expect(rate.isInDebt(guest)).toBe(false);
    expect(clock.pendingCount).toBe(0);
  });

  it('wrl_credit_update: what a domain cannot keep fills a reserve of 1000 writes, which pays debts first', () => {
    const { clock, rate, domain } = limit();
    const guest = domain(5);
    clock.advance(60_000);
    expect(rate.credit(guest)).toEqual({ own: 10, reserve: 1000 });
    for (let i = 0; i < 110; i++) rate.debit(guest);
    expect(rate.isInDebt(guest)).toBe(false);
    expect(rate.credit(guest)).toEqual({ own: 0, reserve: 900 });
    for (let i = 0; i < 901; i++) rate.debit(guest);
    expect(rate.isInDebt(guest)).toBe(true);
  });

  it('domid_is_unprivileged: domain 0 pays nothing', () => {
    const { rate, domain } = limit();
    for (let i = 0; i < 100; i++) rate.debit(domain(0));
    expect(rate.credit(domain(0)).own).toBe(10);
  });
});

describe('a guest that writes', () => {
  it('wrl_apply_debit_direct: is slowed down only while another transaction is open; reads too wait then', async () => {
    const clock = new ManualClock();
    const xenstore = createXenstore({ clock });
    const tools = xenstore.connect(domId(0));
    const guest = xenstore.connect(domId(5));
    await tools.mkdir('/g');
    await tools.setPermissions('/g', [{ domid: 5, access: 'n' }]);
    for (let i = 0; i < 100; i++) await guest.write('/g', `${i}`);
    let written = 0;
    await tools.transaction(async (tx) => {
      const burst = Array.from({ length: 12 }, (_, i) =>
        guest.write('/g', `${i}`).then(() => (written += 1)),
      );
      const reading = guest.readText('/g');
      for (let i = 0; i < 20; i++) await tx.read('/tool');
      expect(written).toBe(11);
      expect(await tools.readText('/g')).toBe('10');
      clock.advance(10);
      await Promise.all(burst.slice(0, 12));
      clock.advance(10);
      expect(await reading).toBe('11');
    });
    for (let i = 0; i < 100; i++) await guest.write('/g', `${i}`);
    xenstore.close();
    expect(clock.pendingCount).toBe(0);
  });

  it('wrl_apply_debit_trans_commit: a transaction costs one write when it commits, however many it made', async () => {
    const clock = new ManualClock();
    const xenstore = createXenstore({ clock });
    const tools = xenstore.connect(domId(0));
    const guest = xenstore.connect(domId(5));
    await tools.mkdir('/g');
    await tools.setPermissions('/g', [{ domid: 5, access: 'n' }]);
    const credit = (): number => xenstore.store.writeRateLimit!.credit(xenstore.store.domain(5)!).own;
    const writeMany = async (): Promise<void> =>
      guest.transaction(async (tx) => {
        for (let i = 0; i < 30; i++) await tx.write(`/g/${i}`, '');
      });
    await writeMany();
    expect(credit()).toBe(10);
    await tools.transaction(async () => {
      await writeMany();
      expect(credit()).toBe(9);
    });
    xenstore.close();
  });

  it('access_node: removing a tree costs a write for every node, and another for the parent of each', async () => {
    const xenstore = createXenstore({ clock: new ManualClock() });
    const tools = xenstore.connect(domId(0));
    const guest = xenstore.connect(domId(5));
    await tools.mkdir('/g');
    await tools.setPermissions('/g', [{ domid: 5, access: 'n' }]);
    await guest.mkdir('/g/a/b');
    await tools.transaction(async () => {
      await guest.rm('/g/a');
      expect(xenstore.store.writeRateLimit!.credit(xenstore.store.domain(5)!).own).toBe(6);
    });
    xenstore.close();
  });
});
