import { spawnSync } from 'node:child_process';
import type { DomId, FeatureBits } from '@virtlab/abi/brands';
import { createDomainMachine } from '@virtlab/domain/node';
import { linuxFfi } from '@virtlab/linux';
import { NetworkNamespace } from '@virtlab/linux/testing';
import type { WireReport } from './messages.ts';

/** Two network namespaces, and between them: TAP, virtio-net driver, virtio_xenbus, virtio-net device, TAP. */
export interface Wire extends AsyncDisposable {
  /** The guest's side, 10.77.0.1 and fd77::1; and domain 0's, 10.77.0.2 and fd77::2. */
  readonly guestSide: NetworkNamespace;
  readonly dom0Side: NetworkNamespace;
  report(): Promise<{ readonly guest: WireReport; readonly dom0: Readonly<Record<string, number>> }>;
  /** Ends the guest in order; what it and domain 0 left behind. */
  close(): Promise<readonly string[]>;
}

export interface WireOptions {
  readonly wanted: FeatureBits;
  readonly mtu: number;
}

export const GUEST_IP = '10.77.0.1';
export const DOM0_IP = '10.77.0.2';
export const GUEST_IP6 = 'fd77::1';
export const DOM0_IP6 = 'fd77::2';

const RAM_SIZE = 64 << 20;
const TAP = 'vl0';
/** Command, argument that does nothing, and the Debian package. */
const COMMANDS = [
  ['ip', '-V', 'iproute2'],
  ['ping', '-V', 'iputils-ping'],
  ['iperf3', '--version', 'iperf3'],
  ['nsenter', '--version', 'util-linux'],
] as const;

/** Why the wire cannot be made here, or undefined. */
export function wireUnavailable(): string | undefined {
  const ffi = linuxFfi();
  if (!ffi.available) return ffi.reason;
  const missing = COMMANDS.find(([command, argument]) => spawnSync(command, [argument]).error !== undefined);
  if (missing !== undefined) return `${missing[0]} is missing: Debian package ${missing[2]}`;
  return NetworkNamespace.unavailable();
}

export async function createWire({ wanted, mtu }: WireOptions): Promise<Wire> {
  const stack = new AsyncDisposableStack();
  try {
    const guestSide = stack.use(await NetworkNamespace.create());
    const dom0Side = stack.use(await NetworkNamespace.create());
    const up = new Map<DomId, PromiseWithResolvers<void>>();
    const failure = Promise.withResolvers<never>();
    failure.promise.catch(() => {}); // every wait sees it
    const expected = new Set<DomId>();
    const upOf = (domain: DomId): PromiseWithResolvers<void> => {
      const found = up.get(domain) ?? Promise.withResolvers<void>();
      up.set(domain, found);
      return found;
    };
    const machine = createDomainMachine({
      onConsole: (domain, record) => {
        if (record === 'up') upOf(domain).resolve();
        else failure.reject(new Error(`Domain ${domain}: ${JSON.stringify(record)}`));
      },
      onDomainEnd: (domain, _reason, detail) => {
        if (!expected.has(domain)) failure.reject(new Error(`Domain ${domain} ended: ${detail}`));
      },
    });
    stack.defer(async () => {
      for (const { domain } of machine.hypervisor.domains()) expected.add(domain);
      await machine.close();
    });
    const ask = async (domain: DomId, request: object): Promise<unknown> =>
      await Promise.race([machine.request(domain, request), failure.promise]);

    const dom0 = machine.hypervisor.createDomain({ name: 'dom0', type: 'pv', ramSize: RAM_SIZE });
    const module = new URL(
      import.meta.url.endsWith('.ts') ? './netns-dom0.ts' : './netns-dom0.js',
      import.meta.url,
    ).href;
    machine.hypervisor.unpauseDomain(dom0, { module, args: null }, { xenstoreFrame: 0, xenstorePort: 0 });
    await Promise.race([upOf(dom0).promise, failure.promise]);
    const guest = (await ask(dom0, {
      op: 'wire',
      wire: { op: 'wire', namespace: dom0Side.path, tap: TAP, mtu },
      guest: { namespace: guestSide.path, tap: TAP, wanted },
    })) as DomId;
    await Promise.race([upOf(guest).promise, failure.promise]);
    await setUp(guestSide, mtu, GUEST_IP, GUEST_IP6);
    await setUp(dom0Side, mtu, DOM0_IP, DOM0_IP6);
    const owned = stack.move();
    return {
      guestSide,
      dom0Side,
      report: async () => ({
        guest: (await ask(guest, { op: 'report' })) as WireReport,
        dom0: (await ask(dom0, { op: 'report' })) as Record<string, number>,
      }),
      close: async () => {
        const { leaks } = (await ask(guest, { op: 'shutdown' })) as WireReport;
        expected.add(guest);
        return [...leaks, ...((await ask(dom0, { op: 'shutdown' })) as string[])];
      },
      [Symbol.asyncDispose]: () => owned[Symbol.asyncDispose](),
    };
  } catch (error) {
    await stack[Symbol.asyncDispose]();
    throw error;
  }
}

async function setUp(side: NetworkNamespace, mtu: number, ip: string, ip6: string): Promise<void> {
  await side.check('ip', 'link', 'set', 'lo', 'up');
  await side.check('ip', 'link', 'set', TAP, 'mtu', String(mtu), 'up');
  await side.check('ip', 'address', 'add', `${ip}/24`, 'dev', TAP);
  await side.check('ip', 'address', 'add', `${ip6}/64`, 'dev', TAP, 'nodad');
}
