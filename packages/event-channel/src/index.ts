export {
  EventChannelError,
  type EventChannelHypercalls,
  type EventChannelStatus,
  type EventChannels,
  type EventTarget,
  type PortTableView,
} from './contract.ts';
export { createEventChannels, type EventChannelsOptions, type EventPeers } from './event-channels.ts';
export { PORT_TABLE_ENTRY_SIZE } from './port-table.ts';
export { maskAllPorts, repostPending, setPending } from './two-level.ts';
