export type {
  ByteStream,
  ByteStreamHandler,
  Xenstore,
  XenstoreAccess,
  XenstoreCloseReason,
  XenstorePermission,
  XenstoreTransaction,
  XenstoreTransactionOptions,
  XenstoreWatch,
  XenstoreWatchEvent,
  XenstoreWatchOptions,
} from './contract.ts';
export { XenstoreClient } from './client.ts';
export {
  type ConnectOptions,
  type CreateXenstoreOptions,
  type InProcessXenstore,
  createXenstore,
} from './create-xenstore.ts';
export { type DaemonClock, SYSTEM_CLOCK } from './daemon-clock.ts';
export type {
  ConflictReport,
  ConnectionReport,
  DaemonStatistics,
  FanOutReport,
  QuotaReport,
} from './daemon-statistics.ts';
export { XenstoreError, type XenstoreErrorCode } from './errors.ts';
export { FaultInjector } from './fault-injector.ts';
export type { FaultPlan } from './fault-plan.ts';
export { type MemoryStreamOptions, memoryStreamPair } from './memory-stream.ts';
export type { XenstoreProfile, XenstoreQuotas } from './profile.ts';
export { ManualClock } from './manual-clock.ts';
export { FAULT_USAGE, parseFault } from './parse-fault.ts';
export { PROFILE_C_4_17 } from './profile-c-4-17.ts';
export { PROFILE_C_HEAD } from './profile-c-head.ts';
export { PROFILE_OXENSTORED } from './profile-oxenstored.ts';
export { XENSTORE_PROFILES } from './profiles.ts';
export { readStatistics } from './read-statistics.ts';
export {
  type RingClient,
  type RingPage,
  type ServedRing,
  type XenstoreRingPort,
  connectRing,
  serveRing,
} from './ring.ts';
export {
  type ConnectionLimits,
  type ConnectionStatistics,
  type XenstoreAttachment,
  type XenstoreDomainHost,
  XenstoreServer,
  type XenstoreServerOptions,
  type XenstoreStatistics,
} from './server.ts';
export { DumpError, type StoreImage } from './store-image.ts';
export { type StoreIdentity, type StoreOptions, XenstoreStore } from './store.ts';
