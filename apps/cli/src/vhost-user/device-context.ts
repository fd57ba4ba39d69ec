import { type NodeAioContext, createBlockingAioContext, createNodeAioContext } from '@virtlab/aio/node';
import type { DaemonPlan } from './daemon-plan.ts';

/** The loop of a thread that has rings. Rejects with `LinuxError` where it cannot be. */
export async function createDeviceContext({
  pollNs,
  loop,
}: Pick<DaemonPlan, 'pollNs' | 'loop'>): Promise<NodeAioContext> {
  const polling = { maxNs: pollNs, staysBusy: true };
  return loop === 'poll' ? await createBlockingAioContext({ polling }) : createNodeAioContext({ polling });
}
