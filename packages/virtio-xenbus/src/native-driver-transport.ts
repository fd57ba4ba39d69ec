import type { EvtchnPort, FeatureBits } from '@virtlab/abi/brands';
import { VIRTIO_CONFIG_S_DRIVER_OK } from '@virtlab/abi/virtio';
import {
  VIRTIO_XENBUS_KEY_DEVICE_STATUS,
  VIRTIO_XENBUS_KEY_DRIVER_FEATURES,
  VIRTIO_XENBUS_KEY_DRIVER_STATUS,
  VIRTIO_XENBUS_QUEUE_DIR,
} from '@virtlab/abi/virtio-xenbus';
import type { EventChannels } from '@virtlab/event-channel';
import { type TransportCapabilities, TransportError } from '@virtlab/virtio';
import { type XenbusDevice, type XenbusKeys, formatHex64, quote } from '@virtlab/xenbus';
import { CAPABILITIES } from './capabilities.ts';
import { ConfigAccess } from './config-access.ts';
import type { DeviceOffer } from './device-offer.ts';
import type { DriverConfigPage } from './driver-config-page.ts';
import { FrontendLife } from './frontend-life.ts';
import type { FrontendParts, OpenedTransport } from './frontend-parts.ts';
import type { FrontendResources } from './frontend-resources.ts';
import type { Lifeline } from './lifeline.ts';
import { QueueRequests } from './queue-requests.ts';
import { type QueueAddresses, driverQueueKey, queueKeys } from './queue-keys.ts';
import { formatStatusLine, nextSerial, parseStatusLine } from './status-line.ts';

export interface NativeTransportParts extends FrontendParts {
  readonly deviceType: number;
  readonly offer: DeviceOffer;
  readonly page: DriverConfigPage;
  readonly configPort: EvtchnPort;
}

const STATUS_MAX = 0xff;
const NO_PORT = 0;

/** A driver's end of a connected device, native profile. Made by `connectVirtioXenbus`. */
export class NativeDriverTransport implements OpenedTransport {
  readonly deviceType: number;
  readonly queueCount: number;
  readonly capabilities: TransportCapabilities = CAPABILITIES;
  readonly #device: XenbusDevice;
  readonly #resources: FrontendResources;
  readonly #offer: DeviceOffer;
  readonly #page: DriverConfigPage;
  readonly #configPort: EvtchnPort;
  readonly #lifeline: Lifeline;
  readonly #life: FrontendLife;
  readonly #events: EventChannels;
  readonly #config: ConfigAccess;
  readonly #requests: QueueRequests;
  /** By queue; `NO_PORT` where it cannot be kicked. */
  readonly #ports: Uint32Array;
  readonly #isEnabled: boolean[];
  readonly #callHandlers: ((() => void) | undefined)[];
  #configHandler: (() => void) | undefined;
  #serial = 0;
  #statusWritten = 0;
  #answered: PromiseWithResolvers<void> | undefined;
  #statusTurn: Promise<void> = Promise.resolve();

  constructor(parts: NativeTransportParts) {
    const { device, resources, offer, page, configPort, lifeline, aio, events } = parts;
    const queueCount = offer.queueSizesMax.length;
    this.deviceType = parts.deviceType;
    this.queueCount = queueCount;
    this.#device = device;
    this.#resources = resources;
    this.#offer = offer;
    this.#page = page;
    this.#configPort = configPort;
    this.#lifeline = lifeline;
    this.#events = events;
    const send = (): void => void events.send(configPort);
    this.#config = new ConfigAccess(page, offer.configSize, lifeline, aio, send);
    this.#requests = new QueueRequests(device, (message) => this.#life.breakOff(message));
    this.#ports = new Uint32Array(queueCount);
    this.#isEnabled = Array.from({ length: queueCount }, () => false);
    this.#callHandlers = Array.from({ length: queueCount }, () => undefined);
    this.#life = new FrontendLife({ ...parts, onOver: () => void this.#ports.fill(NO_PORT) });
  }

  /** Begins to listen to the device. */
  async start(): Promise<void> {
    this.#events.onEvent(this.#configPort, () => this.#onConfigEvent());
    await this.#device.watchOtherendKey(VIRTIO_XENBUS_KEY_DEVICE_STATUS, (text) =>
      this.#onDeviceStatus(text),
    );
    this.#life.start();
  }

  async readDeviceFeatures(): Promise<FeatureBits> {
    this.#life.requireAlive();
    return this.#offer.features;
  }

  async writeDriverFeatures(features: FeatureBits): Promise<void> {
    await this.#lifeline.run('Writing the features', () =>
      this.#requireWritten({ [VIRTIO_XENBUS_KEY_DRIVER_FEATURES]: formatHex64(features) }),
    );
  }

  async readStatus(): Promise<number> {
    this.#life.requireAlive();
    const { status } = this.#page;
    if (status <= STATUS_MAX) return status;
    throw this.#life.breakOff(`The device shows the status 0x${status.toString(16)}`);
  }

  async writeStatus(status: number): Promise<void> {
    if (!(Number.isInteger(status) && status >= 0 && status <= STATUS_MAX)) {
      throw new RangeError(`${status} is no device status`);
    }
    // One at a time: `driver-status` holds one write, and the next would replace it unseen.
    const turn = this.#statusTurn.then(() => this.#exchangeStatus(status));
    this.#statusTurn = turn.catch(() => {}); // the writer is told; the next one has its own turn
    await turn;
  }

  async readQueueSizeMax(queue: number): Promise<number> {
    this.#life.requireAlive();
    return this.#offer.queueSizesMax[queue] ?? 0;
  }

  /**
   * Throws `TypeError` for a queue that is enabled already. Before DRIVER_OK the device looks at it with the next status
   * write, and says there if it does not want it; later it is asked, and `EIO` says that it refused.
   */
  async enableQueue(queue: number, addresses: QueueAddresses): Promise<void> {
    this.#requireQueue(queue);
    if (this.#isEnabled[queue] === true) throw new TypeError(`Queue ${queue} is enabled already`);
    this.#isEnabled[queue] = true;
    const what = `Enabling queue ${queue}`;
    try {
      await this.#lifeline.run(what, async (turn) => {
        const port = await this.#resources.openPort(() => this.#onCallEvent(queue));
        if (!turn.isOver) this.#ports[queue] = port;
        else return await this.#resources.closePort(port);
        const keys = queueKeys(queue, { addresses, port });
        if ((this.#statusWritten & VIRTIO_CONFIG_S_DRIVER_OK) === 0) return await this.#requireWritten(keys);
        if (await this.#ask(queue, true, keys)) return undefined;
        throw new TransportError('EIO', `The device refused queue ${queue}`);
      });
    } catch (error) {
      await this.#releaseQueue(queue);
      throw error;
    }
  }

  async resetQueue(queue: number): Promise<void> {
    this.#requireQueue(queue);
    await this.#lifeline.run(`Resetting queue ${queue}`, async () => {
      if (await this.#ask(queue, false, {}))
        throw new TransportError('EIO', `The device does not reset queue ${queue}`);
      await this.#releaseQueue(queue);
      await this.#requireWritten({ [VIRTIO_XENBUS_QUEUE_DIR(queue)]: undefined });
    });
  }

  async readConfigBytes(offset: number, out: Uint8Array): Promise<void> {
    await this.#config.read(offset, out);
  }

  async readConfigGeneration(): Promise<number> {
    this.#life.requireAlive();
    return this.#page.generation;
  }

  async writeConfigBytes(offset: number, bytes: Uint8Array): Promise<void> {
    await this.#config.write(offset, bytes);
  }

  kick(queue: number): void {
    const port = this.#ports[queue];
    if (port !== undefined && port !== NO_PORT) this.#events.send(port as EvtchnPort);
  }

  onCall(queue: number, handler: (() => void) | undefined): void {
    this.#requireQueue(queue);
    this.#callHandlers[queue] = handler;
  }

  onConfigChange(handler: (() => void) | undefined): void {
    this.#configHandler = handler;
  }

  onGone(handler: ((reason: string) => void) | undefined): void {
    this.#life.onGone(handler);
  }

  /**
   * Resets the device if it is there, closes the connection (each step bounded by the timeout), and gives everything
   * back. Never rejects for what the device does. Idempotent.
   */
  [Symbol.asyncDispose](): Promise<void> {
    this.#callHandlers.fill(undefined);
    this.#configHandler = undefined;
    return this.#life.close(async () => {
      if (this.#statusWritten !== 0) await this.writeStatus(0);
    });
  }

  abandon(): Promise<void> {
    return this.#life.abandon();
  }

  async #exchangeStatus(status: number): Promise<void> {
    await this.#lifeline.run(`Status 0x${status.toString(16)}`, async () => {
      this.#serial = nextSerial(this.#serial);
      this.#statusWritten = status;
      const answered = Promise.withResolvers<void>();
      this.#answered = answered;
      const line = formatStatusLine({ serial: this.#serial, status });
      await this.#requireWritten({ [VIRTIO_XENBUS_KEY_DRIVER_STATUS]: line });
      await answered.promise;
      if (status !== 0) return;
      this.#requests.endAll();
      await this.#releaseQueues();
    });
  }

  /** Answers whether the queue is enabled then. */
  async #ask(queue: number, isEnabled: boolean, keys: XenbusKeys): Promise<boolean> {
    const { line, answer } = await this.#requests.ask(queue, isEnabled);
    await this.#requireWritten({ ...keys, [driverQueueKey(queue)]: line });
    return await answer;
  }

  #onDeviceStatus(text: string | undefined): void {
    if (text === undefined || this.#life.isOver) return;
    const line = parseStatusLine(text);
    if (line === undefined) this.#life.breakOff(`${VIRTIO_XENBUS_KEY_DEVICE_STATUS} is ${quote(text)}`);
    else if (line.serial === this.#serial) this.#answered?.resolve();
  }

  #onCallEvent(queue: number): void {
    if (!this.#life.isOver) this.#callHandlers[queue]?.();
  }

  #onConfigEvent(): void {
    if (!this.#life.isOver && this.#config.handleEvent()) this.#configHandler?.();
  }

  async #releaseQueues(): Promise<void> {
    const enabled = this.#isEnabled.flatMap((isEnabled, queue) => (isEnabled ? [queue] : []));
    if (enabled.length === 0) return;
    for (const queue of enabled) await this.#releaseQueue(queue);
    await this.#requireWritten(
      Object.fromEntries(enabled.map((queue) => [VIRTIO_XENBUS_QUEUE_DIR(queue), undefined])),
    );
  }

  async #releaseQueue(queue: number): Promise<void> {
    const port = this.#ports[queue]! as EvtchnPort;
    this.#ports[queue] = NO_PORT;
    if (port !== NO_PORT) await this.#resources.closePort(port);
    this.#isEnabled[queue] = false;
  }

  async #requireWritten(keys: XenbusKeys): Promise<void> {
    if (await this.#device.write(keys)) return;
    throw new TransportError('ENODEV', `${this.#device.path} was removed`);
  }

  #requireQueue(queue: number): void {
    if (!(Number.isInteger(queue) && queue >= 0 && queue < this.queueCount))
      throw new RangeError(`No queue ${queue}`);
  }
}
