import { type DomId, type EvtchnPort, domId, evtchnPort } from '@virtlab/abi/brands';
import { EVTCHN_FIFO_NR_CHANNELS } from '@virtlab/abi/event-channel';
import { XEN_LEGACY_MAX_VCPUS } from '@virtlab/abi/xen';
import { EventChannelError } from '@virtlab/event-channel';
import type { PortTables } from '@virtlab/event-channel/hypervisor';
import type { GrantLimits } from '@virtlab/grant-table';
import { HypercallError, isHypercallCode } from './errors.ts';
import type { GrantTables } from './grant-tables.ts';
import type {
  DomainConfig,
  DomainProgram,
  HypercallOp,
  HypercallResult,
  MapAccess,
  ShutdownReason,
  StartInfo,
} from './hypercalls.ts';
import type { Hypervisor } from './hypervisor.ts';

interface HypercallContext {
  readonly hypervisor: Hypervisor;
  readonly ports: PortTables;
  readonly grants: GrantTables;
  readonly caller: DomId;
}

type Handler<Op extends HypercallOp> = (
  context: HypercallContext,
  args: ArgumentReader,
) => HypercallResult<Op>;

/** A table of the hypercalls: what arrives is data of another process, so each argument is read and checked once, here. */
const HANDLERS: { readonly [Op in HypercallOp]: Handler<Op> } = {
  alloc_unbound: ({ ports, caller }, args) => ports.allocUnbound(caller, args.domain(), args.domain()),
  bind_interdomain: ({ ports, caller }, args) => ports.bindInterdomain(caller, args.domain(), args.port()),
  bind_virq: ({ ports, caller }, args) => ports.bindVirq(caller, args.u32('virq'), args.u32('vcpu')),
  bind_ipi: ({ ports, caller }, args) => ports.bindIpi(caller, args.u32('vcpu')),
  bind_pirq: ({ ports, caller }, args) => ports.bindPirq(caller, args.u32('pirq'), args.u32('flags')),
  bind_vcpu: ({ ports, caller }, args) => {
    ports.bindVcpu(caller, args.port(), args.u32('vcpu'));
    return null;
  },
  evtchn_close: ({ ports, caller }, args) => {
    ports.close(caller, args.port());
    return null;
  },
  evtchn_status: ({ ports, caller }, args) => ports.status(caller, args.domain(), args.port()),
  evtchn_unmask: ({ ports, caller }, args) => {
    ports.unmask(caller, args.port());
    return null;
  },
  evtchn_reset: ({ ports, caller }, args) => {
    ports.reset(caller, args.domain());
    return null;
  },
  evtchn_init_control: ({ ports, caller }, args) =>
    ports.initControl(caller, args.u32('frame'), args.u32('offset'), args.u32('vcpu')),
  evtchn_expand_array: ({ ports, caller }, args) => {
    ports.expandArray(caller, args.u32('frame'));
    return null;
  },
  evtchn_set_priority: ({ ports, caller }, args) => {
    ports.setPriority(caller, args.port(), args.u32('priority'));
    return null;
  },
  domain_create: (context, args) => {
    requirePrivilege(context, 'domain_create');
    return context.hypervisor.createDomain(args.domainConfig());
  },
  domain_unpause: (context, args) => {
    requirePrivilege(context, 'domain_unpause');
    context.hypervisor.unpauseDomain(args.domain(), args.program(), args.startInfo());
    return null;
  },
  domain_destroy: (context, args) => {
    requirePrivilege(context, 'domain_destroy');
    const domain = args.domain();
    if (domain === context.caller)
      throw new HypercallError('EINVAL', 'domain_destroy', 'A domain cannot destroy itself');
    if (!context.hypervisor.domains().some((info) => info.domain === domain)) {
      throw new HypercallError('ESRCH', 'domain_destroy', `There is no domain ${domain}`);
    }
    context.hypervisor.destroyDomain(domain, 'poweroff', `Destroyed by domain ${context.caller}`);
    return null;
  },
  domain_shutdown: ({ hypervisor, caller }, args) => {
    hypervisor.announceShutdown(
      caller,
      args.oneOf<ShutdownReason>('reason', ['poweroff', 'reboot', 'suspend', 'crash']),
    );
    return null;
  },
  domain_info: ({ hypervisor, caller }) => {
    const all = hypervisor.domains();
    return hypervisor.isPrivileged(caller) ? all : all.filter((info) => info.domain === caller);
  },
  map_domain: ({ hypervisor, caller }, args) => {
    const resources = hypervisor.mapDomain(
      caller,
      args.domain(),
      args.oneOf<MapAccess>('access', ['events', 'memory']),
    );
    return { ramSize: resources.memory.ram.size };
  },
  unmap_domain: ({ hypervisor, caller }, args) => {
    hypervisor.unmapDomain(caller, args.domain());
    return null;
  },
  gnttab_setup_table: ({ grants, caller }, args) =>
    grants.setupTable(caller, args.domain(), args.u32('frameCount')),
  gnttab_query_size: ({ grants, caller }, args) => grants.querySize(caller, args.domain()),
  gnttab_set_version: ({ grants, caller }, args) => grants.setVersion(caller, args.u32('version')),
  gnttab_get_version: ({ grants, caller }, args) => grants.getVersion(caller, args.domain()),
  gnttab_get_status_frames: ({ grants, caller }, args) =>
    grants.getStatusFrames(caller, args.domain(), args.u32('frameCount')),
  ioreq_server_create: (context, args) => {
    requirePrivilege(context, 'ioreq_server_create');
    context.hypervisor.createIoreqServer(context.caller, args.domain());
    return null;
  },
  console_write: ({ hypervisor, caller }, args) => {
    hypervisor.console(caller, args.next());
    return null;
  },
};

/** Runs one hypercall. Throws `HypercallError` only. */
export function dispatchHypercall(
  context: HypercallContext,
  op: HypercallOp,
  args: readonly unknown[],
): unknown {
  const handler = Object.hasOwn(HANDLERS, op) ? HANDLERS[op] : undefined;
  if (handler === undefined) throw new HypercallError('ENOSYS', op, 'No such hypercall');
  try {
    return handler(context, new ArgumentReader(op, args));
  } catch (error) {
    if (error instanceof HypercallError) throw error;
    if (error instanceof EventChannelError && isHypercallCode(error.code)) {
      throw new HypercallError(error.code, op, error.message.slice(error.code.length + 2));
    }
    if (error instanceof RangeError || error instanceof TypeError)
      throw new HypercallError('EINVAL', op, error.message);
    throw error;
  }
}

function requirePrivilege({ hypervisor, caller }: HypercallContext, op: string): void {
  if (!hypervisor.isPrivileged(caller))
    throw new HypercallError('EPERM', op, `Domain ${caller} is not privileged`);
}

const GRANT_LIMITS: readonly (keyof GrantLimits)[] = [
  'frameCount',
  'frameCountMax',
  'maptrackFrameCountMax',
  'versionMax',
];

/** Takes a hypercall's arguments one by one; anything of the wrong form is `EINVAL` naming the argument. */
class ArgumentReader {
  readonly #op: string;
  readonly #args: readonly unknown[];
  #at = 0;

  constructor(op: string, args: readonly unknown[]) {
    this.#op = op;
    this.#args = args;
  }

  next(): unknown {
    const value = this.#args[this.#at];
    this.#at += 1;
    return value;
  }

  domain(): DomId {
    return domId(this.u32('domain'));
  }

  port(): EvtchnPort {
    return evtchnPort(this.u32('port'));
  }

  u32(name: string): number {
    const value = this.next();
    if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 0xffff_ffff)
      return value;
    throw this.#invalid(name, value);
  }

  oneOf<T extends string>(name: string, allowed: readonly T[]): T {
    const value = this.next();
    const found = allowed.find((each) => each === value);
    if (found === undefined) throw this.#invalid(name, value);
    return found;
  }

  domainConfig(): DomainConfig {
    const value = this.#object('config');
    const { name, type, ramSize } = value;
    if (typeof name !== 'string' || !/^[\w.-]{1,64}$/.test(name)) throw this.#invalid('config.name', name);
    if (type !== 'pv' && type !== 'hvm') throw this.#invalid('config.type', type);
    if (typeof ramSize !== 'number') throw this.#invalid('config.ramSize', ramSize);
    const vcpuCount = this.#optionalCount('config.vcpuCount', value['vcpuCount'], XEN_LEGACY_MAX_VCPUS);
    const portMax = this.#optionalCount('config.portMax', value['portMax'], EVTCHN_FIFO_NR_CHANNELS - 1);
    const config: DomainConfig = { name, type, ramSize, vcpuCount, portMax };
    const grantLimits = value['grantLimits'];
    if (grantLimits === undefined || grantLimits === null) return config;
    return { ...config, grantLimits: this.#grantLimits(grantLimits) };
  }

  /** Only what is known, and only numbers: whether they fit is checked where the table is made. */
  #grantLimits(value: unknown): Partial<GrantLimits> {
    if (typeof value !== 'object' || value === null) throw this.#invalid('config.grantLimits', value);
    const limits: Record<string, number> = {};
    for (const name of GRANT_LIMITS) {
      const limit = (value as Record<string, unknown>)[name];
      if (limit === undefined || limit === null) continue;
      if (!Number.isInteger(limit)) throw this.#invalid(`config.grantLimits.${name}`, limit);
      limits[name] = limit as number;
    }
    return limits;
  }

  program(): DomainProgram {
    const value = this.#object('program');
    if (typeof value['module'] !== 'string') throw this.#invalid('program.module', value['module']);
    const events = value['events'] ?? undefined;
    if (events !== undefined && events !== '2l' && events !== 'fifo')
      throw this.#invalid('program.events', events);
    const grantVersion = value['grantVersion'] ?? undefined;
    if (grantVersion !== undefined && grantVersion !== 1 && grantVersion !== 2)
      throw this.#invalid('program.grantVersion', grantVersion);
    return { module: value['module'], args: value['args'], events, grantVersion };
  }

  startInfo(): StartInfo {
    const { xenstoreFrame, xenstorePort } = this.#object('startInfo');
    if (typeof xenstoreFrame !== 'number') throw this.#invalid('startInfo.xenstoreFrame', xenstoreFrame);
    if (typeof xenstorePort !== 'number') throw this.#invalid('startInfo.xenstorePort', xenstorePort);
    return { xenstoreFrame, xenstorePort: xenstorePort === 0 ? 0 : evtchnPort(xenstorePort) };
  }

  #optionalCount(name: string, value: unknown, max: number): number | undefined {
    if (value === undefined || value === null) return undefined;
    if (Number.isInteger(value) && (value as number) >= 1 && (value as number) <= max) return value as number;
    throw this.#invalid(name, value);
  }

  #object(name: string): Readonly<Record<string, unknown>> {
    const value = this.next();
    if (typeof value !== 'object' || value === null) throw this.#invalid(name, value);
    return value as Record<string, unknown>;
  }

  #invalid(name: string, value: unknown): HypercallError {
    const shown =
      typeof value === 'object' ? 'an object of the wrong form' : JSON.stringify(value)?.slice(0, 80);
    return new HypercallError(
      'EINVAL',
      this.#op,
      `Argument ${this.#at} (${name}) cannot be ${shown ?? 'missing'}`,
    );
  }
}
