export { linuxFfi, type FfiAvailability } from './ffi.ts';
export { exitNow } from './exit-now.ts';
export { LinuxError } from './linux-error.ts';
export { closeFd, dupFd, openFdCount } from './fd.ts';
export { punchHole, tryLockFile, zeroRange } from './file-space.ts';
export { EventFd } from './event-fd.ts';
export {
  SHARED_MAPPING_SIZE_MAX,
  mapShared,
  memfdCreate,
  memoryPageSize,
  type MapOptions,
  type MemfdOptions,
  type SharedMapping,
} from './shared-memory.ts';
export { pageMemory, type PageMemoryOptions } from './page-memory.ts';
export { PollSet } from './poll-set.ts';
export { watchReadable, type ReadableWatch } from './watch.ts';
export { socketPair, type PeerCredentials } from './socket-calls.ts';
export {
  UNIX_STREAM_HIGH_WATER,
  UnixStream,
  type CloseReason,
  type UnixStreamOptions,
} from './unix-stream.ts';
export { isListening } from './listening.ts';
export { removeLeftSocket } from './left-socket.ts';
export { UnixStreamServer, type ListenOptions } from './unix-stream-server.ts';
export { inNetworkNamespace } from './network-namespace.ts';
export {
  TAP_CLOSED,
  TAP_EMPTY,
  TAP_FRAME_SIZE_MAX,
  TAP_HEADER_SIZE,
  TapDevice,
  type TapOffloads,
  type TapOptions,
} from './tap.ts';
export { tied } from './tied.ts';
