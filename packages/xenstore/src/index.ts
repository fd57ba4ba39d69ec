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
export { XenstoreError, type XenstoreErrorCode } from './errors.ts';
export { type MemoryStreamOptions, memoryStreamPair } from './memory-stream.ts';
export { PROFILE_C_4_17, type XenstoreProfile, type XenstoreQuotas } from './profile.ts';
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
export { type StoreIdentity, type StoreOptions, XenstoreStore } from './store.ts';
