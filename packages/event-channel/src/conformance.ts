import { describe } from 'vitest';
import { describeDelivery } from './conformance/delivery.ts';
import { describeErrors } from './conformance/errors.ts';
import { describeLifecycle } from './conformance/lifecycle.ts';
import { type EventChannelConformance, onMachine } from './conformance/machine.ts';

export type {
  ConformanceDomain,
  EventChannelConformance,
  EventChannelMachine,
} from './conformance/machine.ts';

/**
 * Certifies an implementation of `EventChannels` with its hypervisor side: the error table of xen/event_channel.h for
 * the 2-level ABI, delivery, masking, fairness, closing, death. Each test runs on an instance of its own and ends by
 * asserting that no port is left.
 */
export function describeEventChannels(suite: EventChannelConformance): void {
  describe(`event channels: ${suite.name}`, () => {
    const machine = onMachine(suite);
    describeErrors(machine);
    describeDelivery(machine, suite.capabilities);
    describeLifecycle(machine, suite.capabilities);
  });
}
