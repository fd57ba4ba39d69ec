export {
  type EventAbi,
  EventChannelError,
  type EventChannelHypercalls,
  type EventChannelStatus,
  type EventChannels,
  type EventTarget,
  type PortTableView,
} from './contract.ts';
export { type DeliveryArea, deliveryArea, deliveryAreaSize } from './delivery-area.ts';
export { createEventChannels, type EventChannelsOptions } from './event-channels.ts';
export { PORT_TABLE_ENTRY_SIZE } from './port-table.ts';
export { postEvent } from './post.ts';
export { maskAllPorts, repostPending, setPending } from './two-level.ts';
export type { EventPeers } from './waiting-sends.ts';
