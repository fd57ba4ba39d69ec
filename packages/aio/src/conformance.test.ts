import { describeAioContext } from './conformance.ts';
import { createAioContext, type AioContext, type Scheduler } from './index.ts';
import { linuxFfi } from '@virtlab/linux';
import { blockingThread } from './node/blocking-thread.ts';
import { NodeAioContext, createNodeAioContext } from './node/index.ts';
import { DOORBELL_POLICIES, createSimulation, type Simulation } from './simulated.ts';

/** Real contexts: gives way to the event loop until the condition holds; the test's time-out is the bound. */
async function realRun(_: AioContext, done: () => boolean): Promise<void> {
  while (!done()) await new Promise((resolve) => setImmediate(resolve));
}

describeAioContext({
  name: 'portable',
  create: () => createAioContext(),
  run: realRun,
  capabilities: { exactNotifiers: true },
});

/** As in a browser: a message channel for tasks, no setImmediate. */
function channelScheduler(): Scheduler {
  const { port1, port2 } = new MessageChannel();
  const tasks: (() => void)[] = [];
  port1.addEventListener('message', () => tasks.shift()?.());
  port1.unref();
  return {
    now: () => performance.now(),
    schedule(task) {
      tasks.push(task);
      port2.postMessage(undefined);
    },
    delay(delayMs, task) {
      const timeout = setTimeout(task, delayMs);
      return () => clearTimeout(timeout);
    },
  };
}

describeAioContext({
  name: 'portable over a message channel',
  create: () => createAioContext({ scheduler: channelScheduler() }),
  run: realRun,
  capabilities: { exactNotifiers: true },
});

for (const maxNs of [0, 50_000, 400_000]) {
  describeAioContext({
    name: `node, spinning up to ${maxNs / 1000} µs`,
    create: () => createNodeAioContext({ polling: { maxNs } }),
    run: realRun,
    capabilities: { exactNotifiers: true },
  });
}

const ffi = linuxFfi();
if (ffi.available) {
  const thread = await blockingThread();
  for (const maxNs of [0, 50_000]) {
    describeAioContext({
      name: `node, a thread that blocks, spinning up to ${maxNs / 1000} µs`,
      create: () => new NodeAioContext({ polling: { maxNs } }, thread.createKernel()),
      run: realRun,
      capabilities: { exactNotifiers: true },
    });
  }
}

for (const policy of Object.values(DOORBELL_POLICIES)) {
  let simulation: Simulation | undefined;
  describeAioContext({
    name: `simulated, ${policy.name} doorbells`,
    create() {
      simulation ??= createSimulation({ seed: 20_260_501, deliver: policy });
      return simulation.createContext('test');
    },
    async run(_, done) {
      await simulation!.run({ untilIdle: true });
      if (!done()) throw new Error('The simulation is idle, and what it was run for did not happen');
    },
    capabilities: { exactNotifiers: policy.name === 'calm' },
  });
}
