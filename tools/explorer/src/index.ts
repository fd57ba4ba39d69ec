/** All interleavings of a few threads, of models or of the code itself, with and without store buffers. */
export {
  type CaseCounts,
  type CaseOutcome,
  type ExplorationCase,
  type PlantedBug,
  campaignFactor,
  runCase,
  summaryLine,
} from './cases.ts';
export { type Difference, compareThreads } from './compare-threads.ts';
export { explore } from './explore.ts';
export {
  type End,
  type Exploration,
  type ExplorationResult,
  type Failure,
  MEMORY_MODELS,
  type MemoryModel,
  type TraceStep,
  formatFailure,
} from './exploration.ts';
export type { Shared } from './shared.ts';
export { SharedMemory, type SharedRegion } from './shared-memory.ts';
export { ThreadLoop, type ThreadLoopOptions, type WordEventFd } from './thread-loop.ts';
export { type Body, type Rounds, type Thread, type Threads, rounds } from './thread.ts';
