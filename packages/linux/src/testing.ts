export { describeWithFfi } from './testing/describe-with-ffi.ts';
export { describeWithPeer } from './testing/describe-with-peer.ts';
export { LineChannel, type Line } from './testing/line-channel.ts';
export { CHANNEL_FD, startProgram, type Program } from './testing/child-process.ts';
export { HugePages } from './testing/huge-pages.ts';
export { semaphoreFd } from './testing/odd-descriptors.ts';
export { NetworkNamespace, type CommandResult } from './testing/network-namespace.ts';
