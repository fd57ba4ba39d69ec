export { connectXenstore } from './connect.ts';
export { type ListenXenstoreOptions, type XenstoreListener, listenXenstore } from './listen.ts';
export { defaultSocketPath } from './socket-path.ts';
export { SocketStream } from './socket-stream.ts';
