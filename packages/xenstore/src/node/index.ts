export { type ConnectXenstoreOptions, connectXenstore } from './connect.ts';
export { readDump, writeDump } from './dump-file.ts';
export { type ListenXenstoreOptions, type XenstoreListener, listenXenstore } from './listen.ts';
export { clientSocketPath, userSocketPath } from './runtime-directory.ts';
export { defaultSocketPath } from './socket-path.ts';
export { SocketStream } from './socket-stream.ts';
export { startXenstored } from './start-xenstored.ts';
export type { StartXenstored, Xenstored, XenstoredOptions } from './xenstored.ts';
