import type { TransportCapabilities } from '@virtlab/virtio';

/** Of the native profile, at both ends. */
export const CAPABILITIES: TransportCapabilities = {
  name: 'xenbus',
  queueReset: true,
  configWrite: true,
  callPerQueue: true,
};

/** Of the register-page profile, at both ends: one interrupt for all queues, and no register that resets one. */
export const REGISTER_PAGE_CAPABILITIES: TransportCapabilities = {
  name: 'xenbus-register-page',
  queueReset: false,
  configWrite: true,
  callPerQueue: false,
};
