import type { DomId } from '@virtlab/abi/brands';
import type { EventChannelHypercalls } from './contract.ts';
import type { PortTables } from './port-tables-contract.ts';

/** The hypercalls of a domain that lives in the hypervisor's own thread. They take effect when called, not when awaited. */
export function inProcessHypercalls(tables: PortTables, caller: DomId): EventChannelHypercalls {
  return {
    allocUnbound: async (domain, remote) => tables.allocUnbound(caller, domain, remote),
    bindInterdomain: async (remote, remotePort) => tables.bindInterdomain(caller, remote, remotePort),
    bindVirq: async (virq, vcpu) => tables.bindVirq(caller, virq, vcpu),
    bindIpi: async (vcpu) => tables.bindIpi(caller, vcpu),
    bindPirq: async (pirq, flags) => tables.bindPirq(caller, pirq, flags),
    bindVcpu: async (port, vcpu) => tables.bindVcpu(caller, port, vcpu),
    close: async (port) => tables.close(caller, port),
    status: async (domain, port) => tables.status(caller, domain, port),
    unmask: async (port) => tables.unmask(caller, port),
    reset: async (domain) => tables.reset(caller, domain),
    initControl: async (frame, offset, vcpu) => tables.initControl(caller, frame, offset, vcpu),
    expandArray: async (frame) => tables.expandArray(caller, frame),
    setPriority: async (port, priority) => tables.setPriority(caller, port, priority),
  };
}
