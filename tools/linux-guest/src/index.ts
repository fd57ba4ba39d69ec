/** Linux in a virtual machine: the guest that our devices are attached to. */
export { type GuestAvailability, guestAvailability } from './availability.ts';
export type { CommandResult } from './control-channel.ts';
export { LinuxGuestError, type LinuxGuestErrorCode } from './error.ts';
export {
  type DeviceOptions,
  type GuestDevice,
  type QemuProperties,
  type SocketChardev,
  type VhostUserOptions,
  streamNet,
  vhostUserBlk,
  vhostUserNet,
  virtioBlk,
  virtioRng,
} from './guest-device.ts';
export { type GuestImage, type GuestImageOptions, guestImage } from './image/guest-image.ts';
export { type LinuxGuest, type LinuxGuestOptions, type TimeLimit, startLinuxGuest } from './linux-guest.ts';
export type { QmpClient, QmpEvent } from './qmp-client.ts';
