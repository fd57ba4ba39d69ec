import type { TransportCapabilities } from '@virtlab/virtio';

/** Of the native profile, at both ends. */
export const CAPABILITIES: TransportCapabilities = {
  name: 'xenbus',
  queueReset: false,
  configWrite: true,
  callPerQueue: true,
};
