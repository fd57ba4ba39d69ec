import { domId } from '@virtlab/abi/brands';
import { describeEventChannels } from './conformance.ts';
import { createTestMachine } from './testing.ts';

const PIRQ_COUNT = 2;
const PAUSED = domId(9);

for (const { abi, portMax } of [
  { abi: '2l', portMax: 4095 },
  { abi: 'fifo', portMax: 4300 },
] as const) {
  describeEventChannels({
    name: `one thread, ${abi}`,
    capabilities: { destroy: true, virq: true, paused: true, abi, vcpuCount: 2, pirqCount: PIRQ_COUNT },
    create: () => {
      const machine = createTestMachine([domId(0), domId(3), domId(7), PAUSED], {
        portCountMax: (domain) => (domain === 0 ? portMax : 1023),
        vcpuCount: (domain) => (domain === 3 ? 2 : 1),
        pirqs: { count: PIRQ_COUNT, mayBind: (domain) => domain === 3 },
        isPaused: (domain) => domain === PAUSED,
      });
      const [privileged, left, right] = machine.domains;
      machine.tables.allocUnbound(PAUSED, PAUSED, domId(0));
      return {
        privileged: privileged!,
        left: left!,
        right: right!,
        paused: PAUSED,
        run: async () => machine.run(),
        destroyRight: async () => machine.destroy(right!),
        raiseVirq: async (virq) => void machine.tables.sendVirq(privileged!.channels.domain, virq),
        dispose: async () => {},
      };
    },
  });
}
