import type { EvtchnPort, FeatureBits } from '@virtlab/abi/brands';
import { VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_VERSION_1, featureBits } from '@virtlab/abi/virtio';
import {
  VIRTIO_XENBUS_ISR_CONFIG,
  VIRTIO_XENBUS_ISR_QUEUE,
  VIRTIO_XENBUS_KEY_EVENT_CHANNEL,
  VIRTIO_XENBUS_KEY_EVENT_CHANNEL2,
  VIRTIO_XENBUS_KEY_PAGE_GREF,
} from '@virtlab/abi/virtio-xenbus-registers';
import type { MappedArea } from '@virtlab/guest-memory';
import type { TransportCapabilities } from '@virtlab/virtio';
import { REGISTER_PAGE_CAPABILITIES } from '../capabilities.ts';
import { type GrantDeviceMemory, createGrantDeviceMemory } from '../grant-device-memory.ts';
import {
  type BackendSession,
  type SessionOptions,
  bindPort,
  closePort,
  mapFrontend,
  mapPage,
  nonsense,
} from '../session-parts.ts';
import { DeviceRegisterPage } from './device-register-page.ts';
import { RegisterFile } from './register-file.ts';

const NO_PORT = 0 as EvtchnPort;

/** A connection of the register-page profile. Every access is carried out in the event that asks for it. */
export class RegisterPageSession implements BackendSession {
  readonly capabilities: TransportCapabilities = REGISTER_PAGE_CAPABILITIES;
  readonly transportFeatures: FeatureBits = featureBits(VIRTIO_F_VERSION_1, VIRTIO_F_ACCESS_PLATFORM);
  readonly memory: GrantDeviceMemory;
  readonly #options: SessionOptions;
  readonly #registers: RegisterFile;
  #page: DeviceRegisterPage | undefined;
  #pageArea: MappedArea | undefined;
  #accessPort = NO_PORT;
  #interruptPort = NO_PORT;
  #isOver = false;

  /** Attaches the host. */
  constructor(options: SessionOptions) {
    const { device, host, grantMapper, mapCountMax } = options;
    this.memory = createGrantDeviceMemory({
      mapper: grantMapper,
      frontendDomain: device.otherendDomain,
      ...(mapCountMax === undefined ? {} : { mapCountMax }),
    });
    this.#options = options;
    this.#registers = new RegisterFile(host);
    host.attach(this);
  }

  async connect(): Promise<void> {
    const { device, events } = this.#options;
    await mapFrontend(this.#options);
    this.#pageArea = await mapPage(device, this.memory, VIRTIO_XENBUS_KEY_PAGE_GREF);
    this.#page = new DeviceRegisterPage(this.#pageArea);
    this.#interruptPort = await bindPort(device, events, VIRTIO_XENBUS_KEY_EVENT_CHANNEL2);
    this.#accessPort = await bindPort(device, events, VIRTIO_XENBUS_KEY_EVENT_CHANNEL);
    events.onEvent(this.#accessPort, () => this.#takeAccess());
  }

  /** The driver asks for nothing through the store. */
  async handleDue(): Promise<void> {}

  call(_queue: number): void {
    this.#interrupt(VIRTIO_XENBUS_ISR_QUEUE);
  }

  configChanged(): void {
    this.#interrupt(VIRTIO_XENBUS_ISR_CONFIG);
  }

  /** The status is read from the device whenever the driver asks; what it must be told comes as a configuration change. */
  statusChanged(): void {}

  /** Resets the device and, when it touches no memory any more, lets go of everything. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isOver) return;
    this.#isOver = true;
    const { host, events } = this.#options;
    await host.detach();
    for (const port of [this.#accessPort, this.#interruptPort])
      if (port !== NO_PORT) await closePort(events, port);
    this.#page = undefined;
    if (this.#pageArea !== undefined) this.memory.unmapArea(this.#pageArea);
  }

  #interrupt(reason: number): void {
    if (this.#isOver || this.#interruptPort === NO_PORT) return;
    this.#registers.raise(reason);
    this.#options.events.send(this.#interruptPort);
  }

  /** From dispatch. The event back tells a driver that sleeps what one that polls sees for itself. */
  #takeAccess(): void {
    const page = this.#page;
    const access = this.#isOver ? undefined : page?.take();
    if (page === undefined || access === undefined) return;
    if (access === 'malformed') {
      const { device, onFault } = this.#options;
      onFault(nonsense(device, VIRTIO_XENBUS_KEY_PAGE_GREF, 'An access is not one to the register file'));
      return;
    }
    page.answer(access, this.#registers.access(access));
    this.#options.events.send(this.#accessPort);
  }
}
