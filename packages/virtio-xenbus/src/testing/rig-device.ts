import { VIRTIO_XENBUS_KIND } from '@virtlab/abi/virtio-xenbus';
import { type DeviceHost, type DriverLink } from '@virtlab/virtio';
import { type DeviceId, backendPath, createDevice, frontendPath, removeDevice } from '@virtlab/xenbus';
import type { Xenstore } from '@virtlab/xenstore';
import { type VirtioXenbusBackend, serveVirtioXenbus } from '../backend.ts';
import { connectVirtioXenbus } from '../connect.ts';
import type { RigDomain } from './rig-domain.ts';
import type { XenRig } from './xen-rig.ts';

/** One virtio device between two domains of a rig. */
export class RigDevice {
  readonly rig: XenRig;
  readonly frontend: RigDomain;
  readonly backend: RigDomain;
  readonly id: DeviceId;

  constructor(rig: XenRig, frontend: RigDomain, backend: RigDomain, index: number = 0) {
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
    await createDevice(this.rig.toolstack, this.id);
  }

  async unplug(): Promise<void> {
    await removeDevice(this.rig.toolstack, this.id);
  }

  async serve(host: DeviceHost, store: Xenstore = this.backend.store): Promise<VirtioXenbusBackend> {
    const { events, grantMapper, mapDomain } = this.backend;
    return await serveVirtioXenbus({ store, path: this.backendPath, host, events, grantMapper, mapDomain });
  }

  async connect(timeoutMs: number = 5000, store: Xenstore = this.frontend.store): Promise<DriverLink> {
    const { events, grants, memory, pages, aio } = this.frontend;
    return await connectVirtioXenbus({
      store,
      path: this.frontendPath,
      events,
      grants,
      memory,
      pages,
      aio,
      timeoutMs,
    });
  }
}
