import { EventChannelError, type EventChannelHypercalls } from '@virtlab/event-channel';
import type { HypervisorConnection } from './connection.ts';
import { HypercallError } from './errors.ts';
import type { HypercallOp, HypercallResult, Hypercalls } from './hypercalls.ts';

/** The event channel operations of a domain over its connection; failures are `EventChannelError`. */
export function eventHypercalls(connection: HypervisorConnection): EventChannelHypercalls {
  const call = <Op extends HypercallOp>(
    op: Op,
    ...args: Parameters<Hypercalls[Op]>
  ): Promise<HypercallResult<Op>> => connection.call(op, ...args).catch(toEventChannelError);
  return {
    allocUnbound: (domain, remote) => call('alloc_unbound', domain, remote),
    bindInterdomain: (remote, port) => call('bind_interdomain', remote, port),
    bindVirq: (virq, vcpu) => call('bind_virq', virq, vcpu),
    bindIpi: (vcpu) => call('bind_ipi', vcpu),
    bindPirq: (pirq, flags) => call('bind_pirq', pirq, flags),
    bindVcpu: async (port, vcpu) => void (await call('bind_vcpu', port, vcpu)),
    close: async (port) => void (await call('evtchn_close', port)),
    status: (domain, port) => call('evtchn_status', domain, port),
    unmask: async (port) => void (await call('evtchn_unmask', port)),
    reset: async (domain) => void (await call('evtchn_reset', domain)),
    initControl: (frame, offset, vcpu) => call('evtchn_init_control', frame, offset, vcpu),
    expandArray: async (frame) => void (await call('evtchn_expand_array', frame)),
    setPriority: async (port, priority) => void (await call('evtchn_set_priority', port, priority)),
  };
}

function toEventChannelError(error: unknown): never {
  if (!(error instanceof HypercallError)) throw error;
  const { code, message } = error;
  switch (code) {
    case 'EINVAL':
    case 'ENOSPC':
    case 'ESRCH':
    case 'EPERM':
    case 'ENOENT':
    case 'EBUSY':
    case 'EEXIST':
    case 'ENOMEM':
    case 'ENOSYS':
    case 'EACCES':
    case 'EAGAIN':
    case 'EOPNOTSUPP':
      throw new EventChannelError(code, message.slice(code.length + 2));
    default:
      throw new EventChannelError('EIO', message);
  }
}
