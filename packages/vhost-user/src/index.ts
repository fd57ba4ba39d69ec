export { type Outcome, type ProtocolFault, type ProtocolFaultCode } from './fault.ts';
export { BACKEND_REQUESTS, REQUESTS } from './messages.ts';
export { MessageFds, type MessageStream, type StreamEnd } from './connection.ts';
export { RequestReceiver, type Answer, type Handlers, type ReceiverOptions } from './request-receiver.ts';
export { RequestSender, type Reply, type SenderOptions } from './request-sender.ts';
export { type VhostUserBackendEnd, type ServeVhostUserOptions } from './backend-options.ts';
export {
  serveVhostUser,
  type VhostUserBackendStatus,
  type VhostUserBackend,
  type VringStatus,
} from './serve.ts';
export type { XenMemory } from './xen-memory.ts';
export type { RegionDescription, XenMapping } from './payload-memory.ts';
export { connectVhostUser, type VhostUserLink } from './frontend-connect.ts';
export {
  connectVhostUserByGrants,
  type ConnectByGrantsOptions,
  type VhostUserGrantLink,
} from './frontend-grants.ts';
export {
  VHOST_USER_FRONTEND_FEATURES,
  type ConnectVhostUserOptions,
  type DoorbellAioContext,
} from './frontend-options.ts';
export type { VhostUserDriverTransport } from './frontend-transport.ts';
export {
  listenVhostUser,
  vhostUserStream,
  type ListenVhostUserOptions,
  type VhostUserListener,
} from './listen.ts';
export { splitVhostUser } from './split.ts';
export type { SplitMember, SplitVhostUserOptions } from './split-options.ts';
