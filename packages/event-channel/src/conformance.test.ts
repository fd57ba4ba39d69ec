import { domId } from '@virtlab/abi/brands';
import { describeEventChannels } from './conformance.ts';
import { createTestMachine } from './testing.ts';

describeEventChannels({
  name: 'one thread',
  capabilities: { destroy: true, virq: true },
  create: () => {
    const machine = createTestMachine([domId(0), domId(3), domId(7)]);
    const [privileged, left, right] = machine.domains;
    return {
      privileged: privileged!,
      left: left!,
      right: right!,
      run: async () => machine.run(),
      destroyRight: async () => machine.destroy(right!),
      raiseVirq: async (virq) => void machine.tables.sendVirq(privileged!.channels.domain, virq),
      dispose: async () => {},
    };
  },
});
