import { VIRTIO_XENBUS_KEY_PROFILE, VIRTIO_XENBUS_KIND } from '@virtlab/abi/virtio-xenbus';
import { type DeviceHost, type DriverLink } from '@virtlab/virtio';
import { type DeviceId, backendPath, createDevice, frontendPath, removeDevice } from '@virtlab/xenbus';
import type { Xenstore } from '@virtlab/xenstore';
import type { VirtioXenbusBackend } from '../backend-contract.ts';
import { serveVirtioXenbus } from '../backend.ts';
import { type ConnectVirtioXenbusOptions, connectVirtioXenbus } from '../connect.ts';
import type { XenbusProfile } from '../profile.ts';
import { type ReconnectVirtioXenbusOptions, reconnectVirtioXenbus } from '../reconnect.ts';
import type { RigDomain } from './rig-domain.ts';
import type { XenRig } from './xen-rig.ts';

/** One virtio device between two domains of a rig. */
export class RigDevice {
  readonly rig: XenRig;
  readonly frontend: RigDomain;
  readonly backend: RigDomain;
  readonly id: DeviceId;

  readonly profile: XenbusProfile;

  constructor(
    rig: XenRig,
    frontend: RigDomain,
    backend: RigDomain,
    index: number = 0,
    profile: XenbusProfile = 'native',
  ) {
    this.profile = profile;
    this.rig = rig;
    this.frontend = frontend;
    this.backend = backend;
    this.id = { kind: VIRTIO_XENBUS_KIND, index, frontendDomain: frontend.id, backendDomain: backend.id };
  }

  get frontendPath(): string {
    return frontendPath(this.id);
  }

  get backendPath(): string {
    return backendPath(this.id);
  }

  /** The toolstack's part. */
  async plug(): Promise<void> {
    const backendKeys = { [VIRTIO_XENBUS_KEY_PROFILE]: this.profile };
    await createDevice(this.rig.toolstack, { ...this.id, backendKeys });
  }

  async unplug(): Promise<void> {
    await removeDevice(this.rig.toolstack, this.id);
  }

  async serve(host: DeviceHost, store: Xenstore = this.backend.store): Promise<VirtioXenbusBackend> {
    const { events, grantMapper, mapDomain, aio } = this.backend;
    const path = this.backendPath;
    return await serveVirtioXenbus({ store, path, host, events, grantMapper, mapDomain, aio });
  }

  async connect(timeoutMs: number = 5000, store: Xenstore = this.frontend.store): Promise<DriverLink> {
    return await connectVirtioXenbus(this.connectOptions(timeoutMs, store));
  }

  /** Waits for the device to come back. */
  async reconnect(
    wait: Pick<ReconnectVirtioXenbusOptions, 'waitMs' | 'signal'> = {},
    timeoutMs: number = 5000,
  ): Promise<DriverLink> {
    return await reconnectVirtioXenbus({ ...this.connectOptions(timeoutMs), ...wait });
  }

  connectOptions(timeoutMs: number, store: Xenstore = this.frontend.store): ConnectVirtioXenbusOptions {
    const { events, grants, memory, pages, aio } = this.frontend;
    return { store, path: this.frontendPath, events, grants, memory, pages, aio, timeoutMs };
  }
}
