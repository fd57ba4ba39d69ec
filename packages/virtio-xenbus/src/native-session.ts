import type { EvtchnPort, FeatureBits } from '@virtlab/abi/brands';
import {
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_RING_RESET,
  VIRTIO_F_VERSION_1,
  featureBits,
} from '@virtlab/abi/virtio';
import {
  VIRTIO_XENBUS_KEY_CONFIG_EVENT_CHANNEL,
  VIRTIO_XENBUS_KEY_CONFIG_REF,
  VIRTIO_XENBUS_KEY_DEVICE_STATUS,
  VIRTIO_XENBUS_KEY_DRIVER_FEATURES,
  VIRTIO_XENBUS_KEY_DRIVER_QUEUE,
  VIRTIO_XENBUS_KEY_DRIVER_STATUS,
} from '@virtlab/abi/virtio-xenbus';
import type { EventChannels } from '@virtlab/event-channel';
import type { MappedArea } from '@virtlab/guest-memory';
import type { DeviceHost, TransportCapabilities } from '@virtlab/virtio';
import { type XenbusDevice, type XenbusKeys, XenbusError, quote } from '@virtlab/xenbus';
import { CAPABILITIES } from './capabilities.ts';
import { DeviceConfigPage } from './device-config-page.ts';
import { type GrantDeviceMemory, createGrantDeviceMemory } from './grant-device-memory.ts';
import { type QueueSetup, deviceQueueKey, driverQueueKey, readQueueSetup } from './queue-keys.ts';
import {
  type BackendSession,
  type SessionOptions,
  bindPort,
  closePort,
  mapFrontend,
  mapPage,
  nonsense,
} from './session-parts.ts';
import { formatStatusLine, parseStatusLine } from './status-line.ts';

const NO_PORT = 0;

/** A connection of the native profile. */
export class NativeSession implements BackendSession {
  readonly capabilities: TransportCapabilities = CAPABILITIES;
  readonly transportFeatures: FeatureBits = featureBits(
    VIRTIO_F_VERSION_1,
    VIRTIO_F_ACCESS_PLATFORM,
    VIRTIO_F_RING_RESET,
  );
  readonly memory: GrantDeviceMemory;
  readonly #options: SessionOptions;
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
  readonly #watches: AsyncDisposable[] = [];
  #statusText: string | undefined;
  /** Of the status write that was answered last. */
  #serial = 0;
  #isHandlingStatus = false;
  /** Queues of which the driver asked something; of which a reset that took its time is over. */
  readonly #askedQueues = new Set<number>();
  readonly #drainedQueues = new Set<number>();
  /** By queue, the serial of the request that was looked at last; and of resets that are not over. */
  readonly #queueSerials: Uint32Array;
  readonly #resettingQueues = new Map<number, number>();
  #resetDone: PromiseWithResolvers<void> | undefined;
  #answers: Promise<void> = Promise.resolve();
  #isOver = false;

  /** Attaches the host. */
  constructor(options: SessionOptions) {
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
    this.#queueSerials = new Uint32Array(host.queueCount);
    this.#config = new Uint8Array(host.configSize);
    host.attach(this);
  }

  async connect(): Promise<void> {
    const device = this.#device;
    await mapFrontend(this.#options);
    const area = await mapPage(device, this.memory, VIRTIO_XENBUS_KEY_CONFIG_REF);
    this.#pageArea = area;
    this.#page = new DeviceConfigPage(area, this.#host.configSize);
    this.#configGeneration = this.#host.configGeneration;
    this.#show(true);
    this.#configPort = await bindPort(device, this.#events, VIRTIO_XENBUS_KEY_CONFIG_EVENT_CHANNEL);
    this.#events.onEvent(this.#configPort, () => this.#takeConfigWrite());
    this.#watches.push(
      await device.watchOtherendTree(VIRTIO_XENBUS_KEY_DRIVER_QUEUE, (below) => this.#noteQueue(below)),
    );
    this.#watches.push(
      await device.watchOtherendKey(VIRTIO_XENBUS_KEY_DRIVER_STATUS, (text) => {
        this.#statusText = text;
        this.#options.onDue();
      }),
    );
  }

  /** In the order in which a driver asks: it waits for each answer before it asks for more. */
  async handleDue(): Promise<void> {
    await this.#handleStatus();
    for (const queue of take(this.#drainedQueues)) await this.#finishQueueReset(queue);
    for (const queue of take(this.#askedQueues)) await this.#handleQueueRequest(queue);
  }

  async #handleStatus(): Promise<void> {
    const text = this.#statusText;
    if (text === undefined) return;
    const line = parseStatusLine(text);
    if (line === undefined || line.serial === 0)
      throw nonsense(this.#device, VIRTIO_XENBUS_KEY_DRIVER_STATUS, quote(text));
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

  queueResetDone(queue: number): void {
    this.#drainedQueues.add(queue);
    this.#options.onDue();
  }

  /** Resets the device and, when it touches no memory any more, lets go of everything. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isOver) return;
    this.#isOver = true;
    await this.#host.detach();
    await this.#closeQueuePorts();
    if (this.#configPort !== NO_PORT) await closePort(this.#events, this.#configPort);
    this.#page = undefined;
    if (this.#pageArea !== undefined) this.memory.unmapArea(this.#pageArea);
    await this.#answers;
    for (const watch of this.#watches) await watch[Symbol.asyncDispose]();
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
    for (let queue = 0; queue < this.#host.queueCount; queue += 1) await this.#enableQueue(queue);
  }

  async #enableQueue(queue: number): Promise<void> {
    if (this.#host.isQueueEnabled(queue)) return;
    const setup = await readQueueSetup(this.#device, queue);
    // A queue that is refused has made the host need a reset, which the answer says, or the status.
    if (setup !== undefined && this.#host.enableQueue(queue, setup.addresses))
      await this.#bindQueue(queue, setup);
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
    // What was asked of a queue is over with it: the driver takes the answer to its status for that.
    this.#resettingQueues.clear();
    await this.#closeQueuePorts();
  }

  /** From a watch: the number of the queue, or nothing for the directory itself. */
  #noteQueue(below: string): void {
    const queue = /^\d{1,4}$/.test(below) ? Number(below) : Infinity;
    if (queue >= this.#host.queueCount) return;
    this.#askedQueues.add(queue);
    this.#options.onDue();
  }

  async #handleQueueRequest(queue: number): Promise<void> {
    const key = driverQueueKey(queue);
    const text = await this.#readIfThere(key);
    if (text === undefined) return;
    const line = parseStatusLine(text);
    if (line === undefined || line.serial === 0 || line.status > 1)
      throw nonsense(this.#device, key, quote(text));
    if (line.serial === this.#queueSerials[queue]) return;
    this.#queueSerials[queue] = line.serial;
    const host = this.#host;
    if (line.status === 1) await this.#enableQueue(queue);
    else {
      host.resetQueue(queue);
      if (host.isQueueResetting(queue)) {
        this.#resettingQueues.set(queue, line.serial);
        return;
      }
      if (!host.isQueueEnabled(queue)) await this.#closeQueuePort(queue);
    }
    await this.#answerQueue(queue, line.serial);
  }

  async #finishQueueReset(queue: number): Promise<void> {
    const serial = this.#resettingQueues.get(queue);
    if (serial === undefined) return;
    this.#resettingQueues.delete(queue);
    await this.#closeQueuePort(queue);
    await this.#answerQueue(queue, serial);
  }

  async #answerQueue(queue: number, serial: number): Promise<void> {
    const status = this.#host.isQueueEnabled(queue) ? 1 : 0;
    await this.#write({ [deviceQueueKey(queue)]: formatStatusLine({ serial, status }) });
  }

  async #readIfThere(key: string): Promise<string | undefined> {
    try {
      return await this.#device.readOtherend(key);
    } catch (error) {
      if (error instanceof XenbusError && error.code === 'ENOENT') return undefined;
      throw error;
    }
  }

  /** In the order of the calls: an older status does not replace a newer one. */
  async #answer(): Promise<void> {
    const line = formatStatusLine({ serial: this.#serial, status: this.#host.status });
    await this.#write({ [VIRTIO_XENBUS_KEY_DEVICE_STATUS]: line });
  }

  async #write(keys: XenbusKeys): Promise<void> {
    const written = this.#answers.then(async () => {
      await this.#device.write(keys);
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
      const message = 'A configuration write is out of bounds';
      this.#options.onFault(nonsense(this.#device, VIRTIO_XENBUS_KEY_CONFIG_REF, message));
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
    for (const queue of this.#queuePorts.keys()) await this.#closeQueuePort(queue);
  }

  async #closeQueuePort(queue: number): Promise<void> {
    const port = this.#queuePorts[queue]!;
    this.#queuePorts[queue] = NO_PORT;
    if (port !== NO_PORT) await closePort(this.#events, port as EvtchnPort);
  }
}

function take(queues: Set<number>): readonly number[] {
  const taken = [...queues];
  queues.clear();
  return taken;
}
