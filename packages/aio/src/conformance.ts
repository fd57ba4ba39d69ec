export { describeAioContext, type AioContextCase } from './conformance/aio-context.ts';
export type { AioCapabilities } from './conformance/world.ts';
