import { type DomId, type EvtchnPort, type FeatureBits, evtchnPort } from '@virtlab/abi/brands';
import { XEN_GRANT_DMA_ADDR_OFF } from '@virtlab/abi/grant-table';
import {
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_VERSION_1,
  featureBits,
} from '@virtlab/abi/virtio';
import {
  VIRTIO_XENBUS_KEY_CONFIG_EVENT_CHANNEL,
  VIRTIO_XENBUS_KEY_CONFIG_REF,
  VIRTIO_XENBUS_KEY_DEVICE_STATUS,
  VIRTIO_XENBUS_KEY_DRIVER_FEATURES,
  VIRTIO_XENBUS_KEY_DRIVER_STATUS,
} from '@virtlab/abi/virtio-xenbus';
import { XEN_PAGE_SHIFT, XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import { EventChannelError, type EventChannels } from '@virtlab/event-channel';
import type { GrantMapper } from '@virtlab/grant-table';
import type { MappedArea } from '@virtlab/guest-memory';
import type { DeviceHost, DeviceTransport, TransportCapabilities } from '@virtlab/virtio';
import { type XenbusDevice, XenbusError, quote } from '@virtlab/xenbus';
import { CAPABILITIES } from './capabilities.ts';
import { DeviceConfigPage } from './device-config-page.ts';
import { type GrantDeviceMemory, createGrantDeviceMemory } from './grant-device-memory.ts';
import { type QueueSetup, readQueueSetup } from './queue-keys.ts';
import { formatStatusLine, parseStatusLine } from './status-line.ts';

export interface BackendSessionOptions {
  readonly device: XenbusDevice;
  readonly host: DeviceHost;
  readonly events: EventChannels;
  readonly grantMapper: GrantMapper;
  readonly mapCountMax?: number;
  /** Makes the frontend's memory reachable for the mapper. */
  readonly mapDomain: (domain: DomId) => Promise<unknown>;
  /** The driver wrote a new status: `handleStatus` is due. */
  readonly onStatusWritten: () => void;
  /** The frontend broke the protocol, or the store is gone. */
  readonly onFault: (error: unknown) => void;
}

const U32_MAX = 0xffff_ffff;
const NO_PORT = 0;

/** One connection of a frontend, from the offer to the end: a device model's transport, and what it holds. */
export class BackendSession implements DeviceTransport, AsyncDisposable {
  readonly capabilities: TransportCapabilities = CAPABILITIES;
  readonly transportFeatures: FeatureBits = featureBits(VIRTIO_F_VERSION_1, VIRTIO_F_ACCESS_PLATFORM);
  readonly memory: GrantDeviceMemory;
  readonly #options: BackendSessionOptions;
  readonly #device: XenbusDevice;
  readonly #host: DeviceHost;
  readonly #events: EventChannels;
  /** By queue; `NO_PORT` where it cannot be called. */
  readonly #queuePorts: Uint32Array;
  readonly #config: Uint8Array;
  #configPort = NO_PORT as EvtchnPort;
  #configGeneration = 0;
  #page: DeviceConfigPage | undefined;
  #pageArea: MappedArea | undefined;
  #statusWatch: AsyncDisposable | undefined;
  #statusText: string | undefined;
  /** Of the status write that was answered last. */
  #serial = 0;
  #isHandlingStatus = false;
  #resetDone: PromiseWithResolvers<void> | undefined;
  #answers: Promise<void> = Promise.resolve();
  #isOver = false;

  /** Attaches the host. */
  constructor(options: BackendSessionOptions) {
    const { device, host, events, grantMapper, mapCountMax } = options;
    this.memory = createGrantDeviceMemory({
      mapper: grantMapper,
      frontendDomain: device.otherendDomain,
      ...(mapCountMax === undefined ? {} : { mapCountMax }),
    });
    this.#options = options;
    this.#device = device;
    this.#host = host;
    this.#events = events;
    this.#queuePorts = new Uint32Array(host.queueCount);
    this.#config = new Uint8Array(host.configSize);
    host.attach(this);
  }

  /** Takes the configuration page and channel of a frontend that is Initialised. Rejects for what it wrote. */
  async connect(): Promise<void> {
    const device = this.#device;
    const [ref, port] = await Promise.all([
      device.readOtherendNumber(VIRTIO_XENBUS_KEY_CONFIG_REF, U32_MAX),
      device.readOtherendNumber(VIRTIO_XENBUS_KEY_CONFIG_EVENT_CHANNEL, U32_MAX),
    ]);
    await this.#mapDomain();
    const address = XEN_GRANT_DMA_ADDR_OFF | (BigInt(ref) << BigInt(XEN_PAGE_SHIFT));
    const area = this.memory.mapArea(address, XEN_PAGE_SIZE, XEN_PAGE_SIZE, true);
    if (typeof area === 'number')
      throw this.#nonsense(VIRTIO_XENBUS_KEY_CONFIG_REF, `Grant ${ref} cannot be mapped`);
    this.#pageArea = area;
    this.#page = new DeviceConfigPage(area, this.#host.configSize);
    this.#configGeneration = this.#host.configGeneration;
    this.#show(true);
    this.#configPort = await this.#events.bindInterdomain(device.otherendDomain, evtchnPort(port));
    this.#events.onEvent(this.#configPort, () => this.#takeConfigWrite());
    this.#statusWatch = await device.watchOtherendKey(VIRTIO_XENBUS_KEY_DRIVER_STATUS, (text) => {
      this.#statusText = text;
      this.#options.onStatusWritten();
    });
  }

  /** Carries out what the driver wrote last, and answers. Rejects for what it wrote. */
  async handleStatus(): Promise<void> {
    const text = this.#statusText;
    if (text === undefined) return;
    const line = parseStatusLine(text);
    if (line === undefined || line.serial === 0)
      throw this.#nonsense(VIRTIO_XENBUS_KEY_DRIVER_STATUS, quote(text));
    if (line.serial === this.#serial) return;
    this.#isHandlingStatus = true;
    try {
      await this.#prepareStatus(line.status);
      this.#host.writeStatus(line.status);
      if (line.status === 0) await this.#finishReset();
      this.#serial = line.serial;
    } finally {
      this.#isHandlingStatus = false;
    }
    this.#show(false);
    await this.#answer();
  }

  call(queue: number): void {
    const port = this.#queuePorts[queue];
    if (port !== undefined && port !== NO_PORT) this.#events.send(port as EvtchnPort);
  }

  configChanged(): void {
    if (this.#isOver || this.#page === undefined) return;
    const generation = this.#host.configGeneration;
    this.#show(generation !== this.#configGeneration);
    this.#configGeneration = generation;
    this.#events.send(this.#configPort);
  }

  statusChanged(): void {
    this.#page?.showStatus(this.#host.status);
    if (this.#host.status === 0) this.#resetDone?.resolve();
    if (!this.#isHandlingStatus && !this.#isOver)
      this.#answer().catch((error: unknown) => this.#options.onFault(error));
  }

  /** Resets the device and, when it touches no memory any more, lets go of everything. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isOver) return;
    this.#isOver = true;
    await this.#host.detach();
    await this.#closeQueuePorts();
    if (this.#configPort !== NO_PORT) await this.#close(this.#configPort);
    this.#page = undefined;
    if (this.#pageArea !== undefined) this.memory.unmapArea(this.#pageArea);
    await this.#answers;
    await this.#statusWatch?.[Symbol.asyncDispose]();
  }

  async #mapDomain(): Promise<void> {
    const { otherend, otherendDomain } = this.#device;
    try {
      await this.#options.mapDomain(otherendDomain);
    } catch (error) {
      throw new XenbusError('ENOENT', otherend, `Domain ${otherendDomain} cannot be mapped`, {
        cause: error,
      });
    }
  }

  /** What a driver must have written before this status: the features before FEATURES_OK, the queues after it. */
  async #prepareStatus(status: number): Promise<void> {
    const host = this.#host;
    const has = (bit: number): boolean => (host.status & bit) !== 0;
    if (status === 0) return;
    if (has(VIRTIO_CONFIG_S_FEATURES_OK)) {
      if (!has(VIRTIO_CONFIG_S_DRIVER_OK)) await this.#enableQueues();
    } else if ((status & VIRTIO_CONFIG_S_FEATURES_OK) !== 0) {
      host.writeDriverFeatures(await this.#readDriverFeatures());
    }
  }

  /** A driver that wrote none accepted none, which the host refuses. */
  async #readDriverFeatures(): Promise<FeatureBits> {
    try {
      return await this.#device.readOtherendHex64(VIRTIO_XENBUS_KEY_DRIVER_FEATURES);
    } catch (error) {
      if (error instanceof XenbusError && error.code === 'ENOENT') return 0n;
      throw error;
    }
  }

  async #enableQueues(): Promise<void> {
    for (let queue = 0; queue < this.#host.queueCount; queue += 1) {
      if (this.#host.isQueueEnabled(queue)) continue;
      const setup = await readQueueSetup(this.#device, queue);
      // A queue that is refused has made the host need a reset, which the answer to the status says.
      if (setup !== undefined && this.#host.enableQueue(queue, setup.addresses))
        await this.#bindQueue(queue, setup);
    }
  }

  async #bindQueue(queue: number, { port }: QueueSetup): Promise<void> {
    const local = await this.#events.bindInterdomain(this.#device.otherendDomain, port);
    this.#queuePorts[queue] = local;
    this.#events.onEvent(local, () => this.#host.kick(queue));
  }

  /** The device may have I/O in flight; its queues' channels go when it has none. */
  async #finishReset(): Promise<void> {
    if (this.#host.status !== 0) {
      this.#resetDone = Promise.withResolvers<void>();
      await this.#resetDone.promise;
      this.#resetDone = undefined;
    }
    await this.#closeQueuePorts();
  }

  /** In the order of the calls: an older status does not replace a newer one. */
  async #answer(): Promise<void> {
    const line = formatStatusLine({ serial: this.#serial, status: this.#host.status });
    const written = this.#answers.then(async () => {
      await this.#device.write({ [VIRTIO_XENBUS_KEY_DEVICE_STATUS]: line });
    });
    this.#answers = written.catch(() => {}); // whoever asked for the answer is told
    await written;
  }

  /** From dispatch: reads the mailbox once. */
  #takeConfigWrite(): void {
    const page = this.#page;
    const write = this.#isOver ? undefined : page?.takeWrite();
    if (page === undefined || write === undefined) return;
    if (write === 'malformed') {
      this.#options.onFault(
        this.#nonsense(VIRTIO_XENBUS_KEY_CONFIG_REF, 'A configuration write is out of bounds'),
      );
      return;
    }
    this.#host.writeConfig(write.offset, write.bytes);
    this.#show(false);
    page.acknowledgeWrite();
    this.#events.send(this.#configPort);
  }

  #show(always: boolean): void {
    this.#page?.showStatus(this.#host.status);
    this.#host.readConfig(0, this.#config);
    this.#page?.showConfig(this.#config, always);
  }

  async #closeQueuePorts(): Promise<void> {
    for (const port of this.#queuePorts) if (port !== NO_PORT) await this.#close(port as EvtchnPort);
    this.#queuePorts.fill(NO_PORT);
  }

  async #close(port: EvtchnPort): Promise<void> {
    try {
      await this.#events.close(port);
    } catch (error) {
      if (!(error instanceof EventChannelError)) throw error; // this domain itself is ending: the hypervisor closed it
    }
  }

  #nonsense(key: string, message: string): XenbusError {
    return new XenbusError('EINVAL', `${this.#device.otherend}/${key}`, message);
  }
}
