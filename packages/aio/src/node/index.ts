import { NodeAioContext, type NodeAioContextOptions } from './node-aio-context.ts';

/**
 * A context on Node's event loop that other processes can wake. Works without the FFI until a wake source is
 * attached.
 */
export function createNodeAioContext(options: NodeAioContextOptions = {}): NodeAioContext {
  return new NodeAioContext(options);
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
