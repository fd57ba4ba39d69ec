import type { EvtchnPort, FeatureBits } from '@virtlab/abi/brands';
import {
  VIRTIO_XENBUS_KEY_DEVICE_STATUS,
  VIRTIO_XENBUS_KEY_DRIVER_FEATURES,
  VIRTIO_XENBUS_KEY_DRIVER_STATUS,
  VIRTIO_XENBUS_QUEUE_DIR,
} from '@virtlab/abi/virtio-xenbus';
import { XenbusState } from '@virtlab/abi/xenbus';
import type { AioContext, BottomHalf } from '@virtlab/aio';
import type { EventChannels } from '@virtlab/event-channel';
import { type DriverTransport, type TransportCapabilities, TransportError } from '@virtlab/virtio';
import { type XenbusDevice, type XenbusKeys, formatHex64, quote, stateName } from '@virtlab/xenbus';
import { CAPABILITIES } from './capabilities.ts';
import { ConfigAccess } from './config-access.ts';
import type { DeviceOffer } from './device-offer.ts';
import type { DriverConfigPage } from './driver-config-page.ts';
import type { FrontendResources } from './frontend-resources.ts';
import { Lifeline } from './lifeline.ts';
import type { OtherendStates } from './otherend-states.ts';
import { type QueueAddresses, queueKeys } from './queue-keys.ts';
import { formatStatusLine, nextSerial, parseStatusLine } from './status-line.ts';

export interface DriverTransportParts {
  readonly device: XenbusDevice;
  readonly states: OtherendStates;
  readonly resources: FrontendResources;
  readonly offer: DeviceOffer;
  readonly page: DriverConfigPage;
  readonly configPort: EvtchnPort;
  readonly events: EventChannels;
  readonly aio: AioContext;
  readonly lifeline: Lifeline;
  readonly timeoutMs: number;
}

const STATUS_MAX = 0xff;
const NO_PORT = 0;

/** A driver's end of a connected device. Made by `connectVirtioXenbus`. */
export class XenbusDriverTransport implements DriverTransport {
  readonly deviceType: number;
  readonly queueCount: number;
  readonly capabilities: TransportCapabilities = CAPABILITIES;
  readonly #parts: DriverTransportParts;
  readonly #lifeline: Lifeline;
  readonly #events: EventChannels;
  readonly #config: ConfigAccess;
  /** By queue; `NO_PORT` where it cannot be kicked. */
  readonly #ports: Uint32Array;
  readonly #isEnabled: boolean[];
  readonly #callHandlers: ((() => void) | undefined)[];
  #configHandler: (() => void) | undefined;
  #goneHandler: ((reason: string) => void) | undefined;
  /** Set until `onGone` was told. */
  #goneReason: string | undefined;
  readonly #goneTeller: BottomHalf;
  /** Bounds the wait for a backend that goes. */
  readonly #farewell: Lifeline;
  #serial = 0;
  #statusWritten = 0;
  #answered: PromiseWithResolvers<void> | undefined;
  #statusTurn: Promise<void> = Promise.resolve();
  #closing: Promise<void> | undefined;

  constructor(parts: DriverTransportParts) {
    const { offer, page, lifeline, aio, events, configPort } = parts;
    const queueCount = offer.queueSizesMax.length;
    this.deviceType = offer.deviceType;
    this.queueCount = queueCount;
    this.#parts = parts;
    this.#lifeline = lifeline;
    this.#events = events;
    this.#config = new ConfigAccess(
      page,
      offer.configSize,
      lifeline,
      aio,
      () => void events.send(configPort),
    );
    this.#ports = new Uint32Array(queueCount);
    this.#isEnabled = Array.from({ length: queueCount }, () => false);
    this.#callHandlers = Array.from({ length: queueCount }, () => undefined);
    this.#farewell = new Lifeline(aio, parts.timeoutMs);
    this.#goneTeller = aio.createBottomHalf(() => this.#tellGone());
  }

  /** Begins to listen to the device. */
  async start(): Promise<void> {
    const { device, states, events, configPort } = this.#parts;
    events.onEvent(configPort, () => this.#onConfigEvent());
    await device.watchOtherendKey(VIRTIO_XENBUS_KEY_DEVICE_STATUS, (text) => this.#onDeviceStatus(text));
    states.onState((state) => this.#onState(state));
  }

  async readDeviceFeatures(): Promise<FeatureBits> {
    this.#requireAlive();
    return this.#parts.offer.features;
  }

  async writeDriverFeatures(features: FeatureBits): Promise<void> {
    await this.#write('Writing the features', { [VIRTIO_XENBUS_KEY_DRIVER_FEATURES]: formatHex64(features) });
  }

  async readStatus(): Promise<number> {
    this.#requireAlive();
    const { status } = this.#parts.page;
    if (status <= STATUS_MAX) return status;
    throw this.#breakOff(`The device shows the status 0x${status.toString(16)}`);
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
    this.#requireAlive();
    return this.#parts.offer.queueSizesMax[queue] ?? 0;
  }

  /** Throws `TypeError` for a queue that is enabled already. The device looks at it with the next status write. */
  async enableQueue(queue: number, addresses: QueueAddresses): Promise<void> {
    this.#requireQueue(queue);
    if (this.#isEnabled[queue] === true) throw new TypeError(`Queue ${queue} is enabled already`);
    this.#isEnabled[queue] = true;
    const { resources } = this.#parts;
    try {
      await this.#lifeline.run(`Enabling queue ${queue}`, async (turn) => {
        const port = await resources.openPort(() => this.#onCallEvent(queue));
        if (!turn.isOver) this.#ports[queue] = port;
        else return await resources.closePort(port);
        return await this.#requireWritten(queueKeys(queue, { addresses, port }));
      });
    } catch (error) {
      await this.#releaseQueue(queue);
      throw error;
    }
  }

  async readConfigBytes(offset: number, out: Uint8Array): Promise<void> {
    await this.#config.read(offset, out);
  }

  async readConfigGeneration(): Promise<number> {
    this.#requireAlive();
    return this.#parts.page.generation;
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
    this.#goneHandler = handler;
    if (this.#goneReason !== undefined && handler !== undefined) this.#goneTeller.schedule();
  }

  /**
   * Resets the device if it is there, closes the connection (each step bounded by the timeout), and gives everything
   * back. Never rejects for what the device does. Idempotent.
   */
  [Symbol.asyncDispose](): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#callHandlers.fill(undefined);
    this.#configHandler = undefined;
    this.#goneHandler = undefined;
    try {
      if (this.#statusWritten !== 0 && this.#lifeline.end === undefined) await this.writeStatus(0);
    } catch (error) {
      if (!(error instanceof TransportError)) throw error;
    }
    this.#parts.states.onState(undefined);
    const closed = new TransportError('ENODEV', 'The transport is closed');
    this.#lifeline.cut(closed);
    this.#farewell.cut(closed);
    this.#goneTeller[Symbol.dispose]();
    this.#ports.fill(NO_PORT);
    await this.#parts.resources.release(this.queueCount);
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
      if (status === 0) await this.#releaseQueues();
    });
  }

  #onDeviceStatus(text: string | undefined): void {
    if (text === undefined || this.#lifeline.end !== undefined) return;
    const line = parseStatusLine(text);
    if (line === undefined) this.#breakOff(`${VIRTIO_XENBUS_KEY_DEVICE_STATUS} is ${quote(text)}`);
    else if (line.serial === this.#serial) this.#answered?.resolve();
  }

  #onCallEvent(queue: number): void {
    if (this.#lifeline.end === undefined) this.#callHandlers[queue]?.();
  }

  #onConfigEvent(): void {
    if (this.#lifeline.end === undefined && this.#config.handleEvent()) this.#configHandler?.();
  }

  #onState(state: XenbusState): void {
    if (state === XenbusState.Connected) return;
    const reason = state === XenbusState.Unknown ? 'removed' : `the backend went to ${stateName(state)}`;
    this.#gone(new TransportError('ENODEV', `${this.#parts.device.otherend}: ${reason}`));
  }

  /** The backend does not keep to the protocol: told to the operator, and this device is over. */
  #breakOff(message: string): TransportError {
    const error = new TransportError('EPROTO', message);
    this.#gone(error, new TransportError('ENODEV', message));
    void this.#parts.resources.reportFault(message);
    return error;
  }

  /** Operations end at once; `onGone` says more, that memory is not touched any more, and so comes later. */
  #gone(error: TransportError, later: TransportError = error): void {
    if (this.#lifeline.end !== undefined) return;
    this.#lifeline.cut(error, later);
    this.#ports.fill(NO_PORT);
    void this.#announceGone(error.message);
  }

  async #announceGone(reason: string): Promise<void> {
    await this.#parts.resources.untilLetGo(this.#farewell);
    if (this.#closing !== undefined) return;
    this.#goneReason = reason;
    this.#goneTeller.schedule();
  }

  #tellGone(): void {
    const reason = this.#goneReason;
    const handler = this.#goneHandler;
    if (reason === undefined || handler === undefined) return;
    this.#goneReason = undefined;
    handler(reason);
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
    if (port !== NO_PORT) await this.#parts.resources.closePort(port);
    this.#isEnabled[queue] = false;
  }

  async #write(what: string, keys: XenbusKeys): Promise<void> {
    await this.#lifeline.run(what, () => this.#requireWritten(keys));
  }

  async #requireWritten(keys: XenbusKeys): Promise<void> {
    if (await this.#parts.device.write(keys)) return;
    throw new TransportError('ENODEV', `${this.#parts.device.path} was removed`);
  }

  #requireAlive(): void {
    if (this.#lifeline.end !== undefined) throw this.#lifeline.end;
  }

  #requireQueue(queue: number): void {
    if (!(Number.isInteger(queue) && queue >= 0 && queue < this.queueCount))
      throw new RangeError(`No queue ${queue}`);
  }
}
