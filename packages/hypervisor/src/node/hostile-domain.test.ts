import type { DomId } from '@virtlab/abi/brands';
import { createPrng } from '@virtlab/aio';
import { linuxFfi, openFdCount } from '@virtlab/linux';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { type ProcessMachine, createProcessMachine } from './process-machine.ts';
import { ATTACKS, type AttackName, type Order, type Sight } from './testing/orders.ts';

const ffi = linuxFfi();
if (!ffi.available && process.env['VIRTLAB_REQUIRE_PEERS'] === '1') throw new Error(ffi.reason);

const SEED = Number(process.env['VIRTLAB_SEED'] ?? Date.now() % 2 ** 32);

/** What the operator reads about the domain. */
const DETAIL: { readonly [Name in AttackName]: RegExp } = {
  noise: /protocol|announced|not MessagePack|lost its hypervisor/,
  'garbage in a frame': /broke the hypercall protocol|not MessagePack/,
  'length of 4 GiB': /A message of 4294967295 bytes was announced/,
  'half a message': /in the middle of a message, 9 bytes into it|exited with code 0/,
  descriptors: /descriptors were lost/,
  'not a call': /broke the hypercall protocol: A message/,
  'deep nesting': /not MessagePack|protocol/,
  'never reads': /does not take messages: ENOBUFS/,
};

describe.skipIf(!ffi.available)(`a process that attacks its hypercall socket (seed ${SEED})`, () => {
  const prng = createPrng(SEED);
  let machine: ProcessMachine;
  let bystander: DomId;
  let fdsBefore: number;
  const ended = new Map<DomId, string>();
  const up = new Set<DomId>();

  beforeAll(async () => {
    fdsBefore = openFdCount();
    machine = createProcessMachine({
      entry: new URL('./testing/scripted-domain.ts', import.meta.url),
      onConsole: (domain) => up.add(domain),
      onDomainEnd: (domain, reason, detail) => ended.set(domain, `${reason}: ${detail}`),
    });
    bystander = await start('bystander');
  });

  afterEach(async () => {
    const { rings } = (await tell(bystander, { order: 'look', index: 1 })) as Sight;
    expect(rings).toBe(0);
    expect([...ended.keys()]).not.toContain(bystander);
  });

  afterAll(async () => {
    await machine.close();
    expect(machine.hypervisor.leaks()).toEqual([]);
    await vi.waitFor(() => expect(openFdCount()).toBe(fdsBefore));
  });

  async function start(name: string): Promise<DomId> {
    const { hypervisor } = machine;
    const domain = hypervisor.createDomain({ name, type: 'pv', ramSize: 1 << 20 });
    hypervisor.unpauseDomain(domain, { module: '', args: null }, { xenstoreFrame: 0, xenstorePort: 0 });
    await vi.waitFor(() => expect(up).toContain(domain), { timeout: 10_000 });
    return domain;
  }

  const tell = (domain: DomId, order: Order): Promise<unknown> => machine.request(domain, order);

  it.each(ATTACKS)(
    '%s: it is crashed with a reason, others and the machine go on, no descriptor stays',
    async (attack) => {
      const fds = openFdCount();
      const attacker = await start('attacker');
      tell(attacker, { order: 'attack', attack, seed: prng.next() }).catch(() => {}); // it dies of it
      await vi.waitFor(() => expect([...ended.keys()]).toContain(attacker), { timeout: 10_000 });
      expect(ended.get(attacker)).toMatch(attack === 'half a message' ? /^(crash|poweroff): / : /^crash: /);
      expect(ended.get(attacker)).toMatch(DETAIL[attack]);
      await vi.waitFor(() => expect(openFdCount()).toBe(fds), { timeout: 5000 });
    },
  );
});
