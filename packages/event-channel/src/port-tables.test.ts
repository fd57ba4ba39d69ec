import { domId, evtchnPort } from '@virtlab/abi/brands';
import {
  EVTCHNSTAT_interdomain,
  EVTCHNSTAT_unbound,
  VIRQ_ARGO,
  VIRQ_CONSOLE,
  VIRQ_DEBUG,
  VIRQ_DOM_EXC,
  VIRQ_TIMER,
} from '@virtlab/abi/event-channel';
import { DOMID_IDLE, DOMID_SELF } from '@virtlab/abi/xen';
import { describe, expect, it } from 'vitest';
import type { EventChannelError } from './contract.ts';
import { createPortTables } from './port-tables.ts';
import { testPages } from './testing.ts';
import { MASK_INDEX, PENDING_INDEX, selectorIndex, upcallIndex } from './two-level.ts';

const DOM0 = domId(0);
const A = domId(5);
const B = domId(9);
const NOBODY = domId(77);

function createTables(paused: readonly number[] = []) {
  const wakes: number[] = [];
  const pages = new Map([DOM0, A, B].map((domain) => [domain, testPages(() => void wakes.push(domain))]));
  const tables = createPortTables({
    domainExists: (domain) => pages.has(domain),
    targetOf: (domain) => pages.get(domain)?.target,
    isPrivileged: (domain) => domain === DOM0,
    isPaused: (domain) => paused.includes(domain),
  });
  for (const [domain, { portTable }] of pages) tables.addDomain(domain, portTable);
  const words = (domain: typeof A, port: number): readonly number[] => {
    const { region, offset } = pages.get(domain)!.portTable;
    return [...region.u32.subarray(offset / 4 + port * 2, offset / 4 + port * 2 + 2)];
  };
  const pending = (domain: typeof A): number => pages.get(domain)!.target.region.u32[PENDING_INDEX]!;
  return { tables, pages, wakes, words, pending };
}

function codeOf(operation: () => unknown): string {
  try {
    operation();
  } catch (error) {
    return (error as EventChannelError).code;
  }
  return 'none';
}

describe('operations that only the hypervisor has', () => {
  it('bind_vcpu: ENOENT for a vCPU that does not exist, EINVAL for IPIs, per-vCPU VIRQs and closed ports', () => {
    const { tables } = createTables();
    const unbound = tables.allocUnbound(A, DOMID_SELF, B);
    const ipi = tables.bindIpi(A, 0);
    const timer = tables.bindVirq(A, VIRQ_TIMER, 0);
    const argo = tables.bindVirq(A, VIRQ_ARGO, 0);
    expect(codeOf(() => tables.bindVcpu(A, unbound, 1))).toBe('ENOENT');
    expect(codeOf(() => tables.bindVcpu(A, evtchnPort(0), 0))).toBe('EINVAL');
    expect(codeOf(() => tables.bindVcpu(A, evtchnPort(500), 0))).toBe('EINVAL');
    expect(codeOf(() => tables.bindVcpu(A, evtchnPort(5000), 0))).toBe('EINVAL');
    expect(codeOf(() => tables.bindVcpu(A, ipi, 0))).toBe('EINVAL');
    expect(codeOf(() => tables.bindVcpu(A, timer, 0))).toBe('EINVAL');
    expect(codeOf(() => tables.bindVcpu(A, argo, 0))).toBe('none');
    expect(codeOf(() => tables.bindVcpu(A, unbound, 0))).toBe('none');
  });

  it('unmask: EINVAL for an invalid port; delivers what was pending', () => {
    const { tables, pages, wakes } = createTables();
    const { u32 } = pages.get(A)!.target.region;
    expect(codeOf(() => tables.unmask(A, evtchnPort(4096)))).toBe('EINVAL');
    u32[MASK_INDEX] = 1 << 3;
    u32[PENDING_INDEX] = 1 << 3;
    tables.unmask(A, evtchnPort(3));
    expect(wakes).toEqual([]); // it is closed
    for (let port = 1; port <= 3; port++) tables.allocUnbound(A, A, B);
    tables.unmask(A, evtchnPort(3));
    expect(wakes).toEqual([A]);
    tables.unmask(A, evtchnPort(3));
    expect(wakes).toEqual([A]);
  });

  it('reset: ESRCH, EPERM, EINVAL for another domain that is not paused; closes every port', () => {
    const { tables } = createTables([B]);
    for (const domain of [A, B])
      for (let port = 1; port <= 3; port++) tables.allocUnbound(domain, domain, DOM0);
    tables.bindInterdomain(DOM0, A, evtchnPort(2));
    expect(codeOf(() => tables.reset(DOM0, NOBODY))).toBe('ESRCH');
    expect(codeOf(() => tables.reset(A, B))).toBe('EPERM');
    expect(codeOf(() => tables.reset(DOM0, A))).toBe('EINVAL');
    tables.reset(DOM0, B);
    tables.reset(A, DOMID_SELF);
    expect([tables.openPorts(A), tables.openPorts(B)]).toEqual([[], []]);
    expect(tables.status(DOM0, DOM0, evtchnPort(1))).toEqual({ kind: 'unbound', vcpu: 0, remote: A });
  });

  it('sendVirq tells whether somebody has bound it', () => {
    const { tables, wakes, pending } = createTables();
    expect(tables.sendVirq(DOM0, VIRQ_DOM_EXC)).toBe(false);
    expect(tables.sendVirq(NOBODY, VIRQ_DOM_EXC)).toBe(false);
    const port = tables.bindVirq(DOM0, VIRQ_DOM_EXC, 0);
    expect(tables.sendVirq(DOM0, VIRQ_DOM_EXC)).toBe(true);
    expect({ wakes, pending: pending(DOM0) }).toEqual({ wakes: [DOM0], pending: 1 << port });
    tables.close(DOM0, port);
    expect(tables.sendVirq(DOM0, VIRQ_DOM_EXC)).toBe(false);
    expect(pending(DOM0)).toBe(0);
  });

  it('a global VIRQ may be given to another domain than 0', () => {
    const { pages } = createTables();
    const tables = createPortTables({
      domainExists: (domain) => pages.has(domain),
      targetOf: (domain) => pages.get(domain)?.target,
      isPrivileged: () => true,
      globalVirqHandler: (virq) => (virq === VIRQ_DOM_EXC ? A : DOM0),
    });
    for (const domain of [DOM0, A]) tables.addDomain(domain, pages.get(domain)!.portTable);
    expect(codeOf(() => tables.bindVirq(DOM0, VIRQ_DOM_EXC, 0))).toBe('EBUSY');
    expect(codeOf(() => tables.bindVirq(A, VIRQ_CONSOLE, 0))).toBe('EBUSY');
    expect(tables.bindVirq(A, VIRQ_DOM_EXC, 0)).toBe(1);
  });
});

describe('arguments of any kind', () => {
  it.each([-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY])('%d is no port, no VIRQ and no vCPU', (value) => {
    const { tables } = createTables();
    expect(codeOf(() => tables.close(A, value as never))).toBe('EINVAL');
    expect(codeOf(() => tables.status(A, A, value as never))).toBe('EINVAL');
    expect(codeOf(() => tables.bindInterdomain(A, B, value as never))).toBe('EINVAL');
    expect(codeOf(() => tables.bindVirq(A, value, 0))).toBe('EINVAL');
    expect(codeOf(() => tables.bindVirq(A, VIRQ_DEBUG, value))).toBe('ENOENT');
    expect(codeOf(() => tables.bindIpi(A, value))).toBe('ENOENT');
    expect(codeOf(() => tables.allocUnbound(A, value as never, B))).toBe('ESRCH');
    expect(tables.openPorts(A)).toEqual([]);
  });

  it('adding a domain twice, or one without a target, is a mistake of ours', () => {
    const { tables, pages } = createTables();
    expect(() => tables.addDomain(A, pages.get(A)!.portTable)).toThrow(TypeError);
    expect(() => tables.addDomain(NOBODY, pages.get(A)!.portTable)).toThrow(TypeError);
  });
});

describe('port table words', () => {
  it('word 0 leads a send, word 1 is the state', () => {
    const { tables, words } = createTables();
    const port = tables.allocUnbound(A, A, B);
    expect(words(A, port)).toEqual([0, EVTCHNSTAT_unbound]);
    for (let skipped = 0; skipped < 4; skipped++) tables.allocUnbound(B, B, A);
    const bound = tables.bindInterdomain(B, A, port);
    expect(words(A, port)).toEqual([((B << 17) | bound) >>> 0, EVTCHNSTAT_interdomain]);
    expect(words(B, bound)).toEqual([((A << 17) | port) >>> 0, EVTCHNSTAT_interdomain]);
    tables.close(B, bound);
    expect(words(A, port)).toEqual([0, EVTCHNSTAT_unbound]);
    expect(words(B, bound)).toEqual([0, 0]);
    const ipi = tables.bindIpi(A, 0);
    expect(words(A, ipi)[0]).toBe((A << 17) | ipi);
  });

  it('what a domain scribbles into its table changes nothing for the hypervisor', () => {
    const { tables, pages } = createTables();
    const port = tables.allocUnbound(A, A, B);
    const { region, offset } = pages.get(A)!.portTable;
    region.u32.fill(0xffff_ffff, offset / 4);
    expect(tables.openPorts(A)).toEqual([port]);
    expect(tables.status(A, A, port)).toEqual({ kind: 'unbound', vcpu: 0, remote: B });
    expect(tables.allocUnbound(A, A, B)).toBe(2);
  });
});

describe('removeDomain', () => {
  it('answers what was closed and makes the peers unbound', () => {
    const { tables } = createTables();
    const waiting = tables.allocUnbound(A, A, B);
    const bound = tables.bindInterdomain(B, A, waiting);
    const ipi = tables.bindIpi(B, 0);
    expect(tables.removeDomain(B)).toEqual([
      { port: bound, was: { kind: 'interdomain', vcpu: 0, remote: A, remotePort: waiting } },
      { port: ipi, was: { kind: 'ipi', vcpu: 0 } },
    ]);
    expect(tables.status(A, A, waiting)).toEqual({ kind: 'unbound', vcpu: 0, remote: B });
    expect(codeOf(() => tables.bindInterdomain(A, B, bound))).toBe('ESRCH');
    expect(codeOf(() => tables.allocUnbound(B, DOMID_SELF, A))).toBe('ESRCH');
    expect(tables.removeDomain(B)).toEqual([]);
    expect(tables.removeDomain(DOMID_IDLE)).toEqual([]);
  });

  it('completes what the dead domain had posted by half', () => {
    const { tables, pages, wakes } = createTables();
    pages.get(A)!.target.region.u32[PENDING_INDEX] = 1 << 9;
    tables.removeDomain(B);
    expect(wakes).toEqual([A]);
    expect(pages.get(A)!.target.region.u8[upcallIndex(pages.get(A)!.target, 0)]).toBe(1);
    expect(pages.get(A)!.target.region.u32[selectorIndex(pages.get(A)!.target, 0)]).toBe(1);
  });

  it('a domain of the same id may be added again with its ports closed', () => {
    const { tables, pages } = createTables();
    tables.allocUnbound(B, B, A);
    tables.removeDomain(B);
    tables.addDomain(B, pages.get(B)!.portTable);
    expect(tables.openPorts(B)).toEqual([]);
    expect(tables.allocUnbound(B, B, A)).toBe(1);
  });
});
