import { blockingThread } from './blocking-thread.ts';
import { NodeAioContext, type NodeAioContextOptions } from './node-aio-context.ts';

/**
 * A context on Node's event loop that other processes can wake. Works without the FFI until a wake source is
 * attached.
 */
export function createNodeAioContext(options: NodeAioContextOptions = {}): NodeAioContext {
  return new NodeAioContext(options);
}

/**
 * A context for a thread that does nothing else, a worker mostly: with nothing to do the thread blocks in poll(2) until a descriptor
 * of the context is readable, or Node's event loop has something to do. While a timer of Node's own is armed the thread
 * looks every millisecond. Several contexts of a thread share it; one on Node's loop beside them is late. Rejects with `LinuxError` `ENOSYS` without the FFI, or where the loop's descriptor
 * cannot be found.
 */
export async function createBlockingAioContext(options: NodeAioContextOptions = {}): Promise<NodeAioContext> {
  return new NodeAioContext(options, (await blockingThread()).createKernel());
}

export type { ContextKernel, ReadableSet } from './context-kernel.ts';
export { NodeAioContext, type NodeAioContextOptions, type WakeSource } from './node-aio-context.ts';
export { AdaptiveSpin, type PollingOptions } from './adaptive-spin.ts';
export {
  DoorbellSender,
  createSharedDoorbell,
  createSharedNotifier,
  type SharedDoorbell,
  type SharedDoorbellOptions,
  type SharedNotifier,
  type SharedNotifierOptions,
} from './shared-doorbell.ts';
