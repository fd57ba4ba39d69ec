import { describe } from 'vitest';
import { describeDelivery } from './conformance/delivery.ts';
import { describeAbi } from './conformance/abi.ts';
import { describeErrors } from './conformance/errors.ts';
import { describeLifecycle } from './conformance/lifecycle.ts';
import { describeFifo } from './conformance/fifo.ts';
import { type EventChannelConformance, onMachine } from './conformance/machine.ts';
import { describeReset } from './conformance/reset.ts';
import { describeVcpus } from './conformance/vcpus.ts';

export type {
  ConformanceDomain,
  EventChannelCapabilities,
  EventChannelConformance,
  EventChannelMachine,
} from './conformance/machine.ts';

/**
 * Certifies an implementation of `EventChannels` with its hypervisor side, over the ABI that its capabilities name: the error
 * table of xen/event_channel.h, delivery, masking, fairness, order, vCPUs, closing, reset, death. Each test runs on an
 * instance of its own and ends by asserting that no port is left.
 */
export function describeEventChannels(suite: EventChannelConformance): void {
  describe(`event channels: ${suite.name}`, () => {
    const machine = onMachine(suite);
    const { capabilities } = suite;
    describeErrors(machine);
    describeDelivery(machine, capabilities);
    describeLifecycle(machine, capabilities);
    describeVcpus(machine, capabilities);
    describeReset(machine, capabilities);
    describeAbi(machine, onMachine(suite, '2l'), capabilities);
    if (capabilities.abi === 'fifo') describeFifo(machine, capabilities);
  });
}
