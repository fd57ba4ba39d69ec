import { DeviceHost, type DriverLink } from '@virtlab/virtio';
import { readState, stateName } from '@virtlab/xenbus';
import { expect } from 'vitest';
import type { VirtioXenbusBackend } from '../backend-contract.ts';
import type { XenbusProfile } from '../profile.ts';
import { bringUp } from './drive.ts';
import { RawRing } from './raw-ring.ts';
import { RigDevice } from './rig-device.ts';
import { TinyDevice } from './tiny-device.ts';
import { XenRig } from './xen-rig.ts';

/** One device with one queue between two domains of a rig, its backend running. */
export class Bench {
  readonly rig: XenRig;
  readonly place: RigDevice;
  readonly device: TinyDevice;
  readonly host: DeviceHost;
  readonly backend: VirtioXenbusBackend;

  constructor(
    rig: XenRig,
    place: RigDevice,
    host: DeviceHost,
    device: TinyDevice,
    backend: VirtioXenbusBackend,
  ) {
    this.rig = rig;
    this.place = place;
    this.host = host;
    this.device = device;
    this.backend = backend;
  }

  static async create(profile: XenbusProfile = 'native', backendDomain: number = 0): Promise<Bench> {
    const rig = new XenRig();
    const frontend = await rig.addDomain(1);
    const place = new RigDevice(rig, frontend, await rig.addDomain(backendDomain), 0, profile);
    await place.plug();
    const device = new TinyDevice();
    const host = new DeviceHost({ device, aio: place.backend.aio });
    return new Bench(rig, place, host, device, await rig.run(place.serve(host)));
  }

  async connect(): Promise<DriverLink> {
    return await this.rig.run(this.place.connect());
  }

  /** Runs one buffer through the device. */
  async exercise(link: DriverLink): Promise<void> {
    const ring = new RawRing(link.dma);
    await this.rig.run(bringUp(link, ring));
    const before = this.device.doneCount;
    ring.add(ring.addresses.descriptorArea, 16);
    link.transport.kick(0);
    await this.rig.until('the buffer is done', () => this.device.doneCount === before + 1);
    await this.rig.run(link.transport.writeStatus(0));
    expect(ring.free()).toBe(true);
  }

  async states(): Promise<string> {
    const { toolstack } = this.rig;
    const [front, back] = await this.rig.run(
      Promise.all([
        readState(toolstack, this.place.frontendPath),
        readState(toolstack, this.place.backendPath),
      ]),
    );
    return `${stateName(front)} ${stateName(back)}`;
  }

  /** Closes everything; answers what is left then. */
  async end(...links: readonly DriverLink[]): Promise<readonly string[]> {
    for (const link of links) await this.rig.run(link[Symbol.asyncDispose]());
    await this.rig.run(this.backend[Symbol.asyncDispose]());
    this.host[Symbol.dispose]();
    return this.rig.leaks();
  }
}
