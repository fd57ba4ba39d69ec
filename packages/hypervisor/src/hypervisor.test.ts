import { domId } from '@virtlab/abi/brands';
import { VIRQ_DOM_EXC } from '@virtlab/abi/event-channel';
import { GTF_permit_access, GTF_reading, GTF_writing } from '@virtlab/abi/grant-table';
import { createPrng } from '@virtlab/aio';
import { describe, expect, it } from 'vitest';
import type { HypervisorConnection } from './connection.ts';
import { XEN_PAGES } from './domain-memory.ts';
import { HypercallError } from './errors.ts';
import { type LocalMachine, createLocalMachine } from './local.ts';

const RAM_SIZE = 1 << 20;
const NO_PROGRAM = { module: 'none', args: null };
const NO_START_INFO = { xenstoreFrame: 0, xenstorePort: 0 as const };

const OPERATIONS = [
  'alloc_unbound',
  'bind_interdomain',
  'bind_virq',
  'bind_ipi',
  'bind_pirq',
  'bind_vcpu',
  'evtchn_close',
  'evtchn_unmask',
  'evtchn_reset',
  'evtchn_init_control',
  'evtchn_expand_array',
  'evtchn_set_priority',
  'evtchn_status',
  'domain_create',
  'domain_unpause',
  'domain_destroy',
  'domain_shutdown',
  'domain_info',
  'map_domain',
  'unmap_domain',
  'gnttab_setup_table',
  'gnttab_query_size',
  'gnttab_set_version',
  'gnttab_get_version',
  'gnttab_get_status_frames',
  'ioreq_server_create',
  'console_write',
  'toString',
];

interface Rig {
  readonly machine: LocalMachine;
  readonly ended: string[];
  readonly consoles: unknown[];
  add(name: string, type?: 'pv' | 'hvm'): Promise<HypervisorConnection>;
}

function rig(): Rig {
  const ended: string[] = [];
  const consoles: unknown[] = [];
  const machine = createLocalMachine({
    launch: () => {},
    onConsole: (domain, record) => consoles.push([domain, record]),
    onDomainEnd: (domain, reason, detail) => ended.push(`${domain} ${reason}: ${detail}`),
  });
  const add = async (name: string, type: 'pv' | 'hvm' = 'pv'): Promise<HypervisorConnection> => {
    const domain = machine.hypervisor.createDomain({ name, type, ramSize: RAM_SIZE });
    machine.hypervisor.unpauseDomain(domain, NO_PROGRAM, NO_START_INFO);
    await Promise.resolve();
    return machine.connection(domain)!;
  };
  return { machine, ended, consoles, add };
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return 'no error';
  } catch (error) {
    return error instanceof HypercallError ? error.code : String(error);
  }
}

/** `done`, or the name of what was thrown. */
function attempt(run: () => unknown): string {
  try {
    run();
    return 'done';
  } catch (error) {
    return error instanceof Error ? error.name : String(error);
  }
}

/** Grants frame 5 of a domain to `to`, as its own code would. */
function grantRaw(
  from: HypervisorConnection,
  ref: number,
  to: HypervisorConnection,
  flags: number = GTF_permit_access,
): number {
  const entry = (XEN_PAGES.grantTable + 8 * ref) / 4;
  from.memory.xen.u32[entry + 1] = 5;
  from.memory.xen.u32[entry] = (flags | (to.domain << 16)) >>> 0;
  return entry;
}

describe('domain table', () => {
  it('gives domain 0 privilege and never uses a domain id twice', async () => {
    const { machine, add } = rig();
    const dom0 = await add('dom0');
    const first = await dom0.call('domain_create', { name: 'a', type: 'pv', ramSize: RAM_SIZE });
    await dom0.call('domain_destroy', first);
    const second = await dom0.call('domain_create', { name: 'a', type: 'pv', ramSize: RAM_SIZE });
    expect([first, second]).toEqual([1, 2]);
    expect(machine.hypervisor.domains().map((info) => info.state)).toEqual(['running', 'paused']);
  });

  it('refuses privileged operations of other domains with EPERM', async () => {
    const { add } = rig();
    await add('dom0');
    const domU = await add('u');
    expect(await codeOf(domU.call('domain_create', { name: 'x', type: 'pv', ramSize: RAM_SIZE }))).toBe(
      'EPERM',
    );
    expect(await codeOf(domU.call('domain_destroy', domId(0)))).toBe('EPERM');
    expect(await codeOf(domU.call('ioreq_server_create', domId(0)))).toBe('EPERM');
    expect(await codeOf(domU.call('map_domain', domId(0), 'memory'))).toBe('EPERM');
    expect((await domU.call('domain_info')).map((info) => info.domain)).toEqual([1]);
  });

  it('answers malformed arguments with EINVAL and unknown operations with ENOSYS, and lives on', async () => {
    const { machine, add } = rig();
    const dom0 = await add('dom0');
    const call = (op: string, ...args: unknown[]): Promise<unknown> =>
      Promise.resolve().then(() => machine.hypervisor.hypercall(dom0.domain, op, args));
    expect(await codeOf(call('domain_create', { name: '../x', type: 'pv', ramSize: RAM_SIZE }))).toBe(
      'EINVAL',
    );
    expect(await codeOf(call('domain_create', { name: 'x', type: 'pv', ramSize: 4097 }))).toBe('EINVAL');
    expect(await codeOf(call('domain_create', null))).toBe('EINVAL');
    expect(await codeOf(call('map_domain', 0, 'everything'))).toBe('EINVAL');
    expect(await codeOf(call('map_domain', 7, 'events'))).toBe('ESRCH');
    expect(await codeOf(call('domain_destroy', 7))).toBe('ESRCH');
    expect(await codeOf(call('evtchn_close', -1))).toBe('EINVAL');
    expect(await codeOf(call('constructor'))).toBe('ENOSYS');
    expect(await codeOf(call('__proto__'))).toBe('ENOSYS');
    expect((await dom0.call('domain_info')).length).toBe(1);
  });

  it('answers arguments of any form with a result or a HypercallError, whoever asks', async () => {
    const seed = Date.now() % 2 ** 32;
    const prng = createPrng(seed);
    const { machine, add } = rig();
    const dom0 = await add('dom0');
    await add('u', 'hvm');
    const values: readonly unknown[] = [
      0,
      1,
      2,
      3,
      7,
      -1,
      0.5,
      NaN,
      2 ** 32,
      2 ** 53,
      32_752,
      4n,
      '',
      'memory',
      'events',
      'poweroff',
      '__proto__',
      null,
      undefined,
      true,
      [],
      {},
      new Map(),
      new Uint8Array(8),
      { module: 'm', args: {} },
      { module: 7 },
      { name: 'x', type: 'hvm', ramSize: RAM_SIZE },
      { name: 'x', type: 'pv', ramSize: Infinity },
      { name: 'x', type: 'pv', ramSize: RAM_SIZE, grantLimits: { frameCount: -1 } },
      { name: 'x', type: 'pv', ramSize: RAM_SIZE, grantLimits: { frameCountMax: 2 } },
      { xenstoreFrame: 1, xenstorePort: 1 },
      { xenstoreFrame: NaN, xenstorePort: -1 },
    ];
    const pick = <T>(from: readonly T[]): T => from[prng.below(from.length)]!;
    for (let call = 0; call < 5000; call += 1) {
      const callers = machine.hypervisor.domains();
      const args = Array.from({ length: prng.below(4) }, () => pick(values));
      const op = pick(OPERATIONS);
      const outcome = attempt(() => machine.hypervisor.hypercall(pick(callers).domain, op, args));
      expect(outcome, `seed ${seed}, call ${call}: ${op}`).toMatch(/^(done|HypercallError)$/);
      for (const { domain } of callers.slice(8))
        machine.hypervisor.destroyDomain(domain, 'poweroff', 'enough');
    }
    expect((await dom0.call('domain_info'))[0]).toMatchObject({ domain: 0, name: 'dom0' });
  });

  it('reports what a domain writes to its console', async () => {
    const { consoles, add } = rig();
    const dom0 = await add('dom0');
    await dom0.call('console_write', { text: 'hello' });
    expect(consoles).toEqual([[0, { text: 'hello' }]]);
  });
});

describe('mapping of peers', () => {
  it('lets a domain map what it was granted something of, and nobody else', async () => {
    const { add } = rig();
    await add('dom0');
    const [a, b] = [await add('a'), await add('b')];
    expect(await codeOf(b.mapDomain(a.domain, 'memory'))).toBe('EPERM');
    grantRaw(a, 8, b);
    const foreign = await b.mapDomain(a.domain, 'memory');
    a.memory.ram.u8[5 * 4096] = 77;
    expect(foreign.memory.ram?.u8[5 * 4096]).toBe(77);
    expect((await b.mapDomain(domId(0), 'events')).memory.ram).toBeUndefined();
  });

  it('tells whoever mapped a domain that it ended, releases its pins, and raises VIRQ_DOM_EXC', async () => {
    const { machine, ended, add } = rig();
    const dom0 = await add('dom0');
    const [a, b] = [await add('a'), await add('b')];
    await dom0.call('bind_virq', VIRQ_DOM_EXC, 0);
    const entry = grantRaw(a, 8, b, GTF_permit_access | GTF_reading | GTF_writing);
    const gone: number[] = [];
    a.onDomainGone((domain) => gone.push(domain));
    await a.mapDomain(b.domain, 'events');
    machine.hypervisor.destroyDomain(b.domain, 'crash', 'Process 9 was killed by SIGKILL');
    expect(gone).toEqual([b.domain]);
    expect(a.memory.xen.u32[entry]! & (GTF_reading | GTF_writing)).toBe(0);
    expect(a.foreign(b.domain, 'events')).toBeUndefined();
    expect(dom0.memory.xen.u8[XEN_PAGES.sharedInfo]).toBe(1); // evtchn_upcall_pending
    expect(ended).toEqual(['2 crash: Process 9 was killed by SIGKILL']);
    expect(await codeOf(b.call('domain_info'))).toBe('ECONNRESET');
  });

  it('names what is left in a machine that should be quiescent', async () => {
    const { machine, add } = rig();
    const dom0 = await add('dom0');
    const a = await add('a');
    await dom0.mapDomain(a.domain, 'memory');
    await dom0.call('alloc_unbound', dom0.domain, a.domain);
    expect(machine.hypervisor.leaks()).toEqual([
      'domain 0 (dom0)',
      'domain 0 has event channel port 1 open',
      'domain 1 (a)',
      'domain 0 maps memory of domain 1',
    ]);
    machine.hypervisor.destroyDomain(a.domain, 'poweroff', 'done');
    machine.hypervisor.destroyDomain(dom0.domain, 'poweroff', 'done');
    expect(machine.hypervisor.leaks()).toEqual([]);
  });
});

describe('device model of an HVM domain', () => {
  it('serves one domain, once, and its death is visible to that domain', async () => {
    const { machine, add } = rig();
    const dom0 = await add('dom0');
    const [hvm, pv] = [await add('hvm', 'hvm'), await add('pv')];
    const state = (): number => hvm.memory.xen.i32[XEN_PAGES.deviceModelState / 4]! & 0xff;
    expect(await codeOf(dom0.serveTraps(pv.domain, () => {}))).toBe('EINVAL');
    await dom0.serveTraps(hvm.domain, () => {});
    expect(state()).toBe(1);
    expect(await codeOf(dom0.serveTraps(hvm.domain, () => {}))).toBe('EEXIST');
    machine.hypervisor.destroyDomain(dom0.domain, 'crash', 'gone');
    expect(state()).toBe(2);
  });
});
