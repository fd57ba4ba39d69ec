import type { DomId } from '@virtlab/abi/brands';
import type { EventChannelHypercalls } from './contract.ts';
import type { PortTables } from './port-tables.ts';

/** The hypercalls of a domain that lives in the hypervisor's own thread. They take effect when called, not when awaited. */
export function inProcessHypercalls(tables: PortTables, caller: DomId): EventChannelHypercalls {
  return {
    allocUnbound: async (domain, remote) => tables.allocUnbound(caller, domain, remote),
    bindInterdomain: async (remote, remotePort) => tables.bindInterdomain(caller, remote, remotePort),
    bindVirq: async (virq, vcpu) => tables.bindVirq(caller, virq, vcpu),
    bindIpi: async (vcpu) => tables.bindIpi(caller, vcpu),
    close: async (port) => tables.close(caller, port),
    status: async (domain, port) => tables.status(caller, domain, port),
  };
}
