export {
  TransportError,
  type DeviceActivation,
  type DeviceModel,
  type DeviceTransport,
  type DriverLink,
  type DriverTransport,
  type TransportCapabilities,
  type VirtioDevice,
} from './contract.ts';
