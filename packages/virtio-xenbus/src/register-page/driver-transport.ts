import type { EvtchnPort, FeatureBits } from '@virtlab/abi/brands';
import { VIRTQUEUE_SIZE_MAX } from '@virtlab/abi/virtio-ring';
import { VIRTIO_XENBUS_QUEUE_COUNT_MAX } from '@virtlab/abi/virtio-xenbus';
import {
  VIRTIO_XENBUS_ABI_VERSION,
  VIRTIO_XENBUS_ISR_CONFIG,
  VIRTIO_XENBUS_ISR_QUEUE,
  VIRTIO_XENBUS_REGISTERS,
  VIRTIO_XENBUS_REGISTER_CONFIG_SIZE_MAX,
} from '@virtlab/abi/virtio-xenbus-registers';
import type { AioContext } from '@virtlab/aio';
import { type TransportCapabilities, TransportError } from '@virtlab/virtio';
import { REGISTER_PAGE_CAPABILITIES } from '../capabilities.ts';
import { FrontendLife } from '../frontend-life.ts';
import type { FrontendParts, OpenedTransport } from '../frontend-parts.ts';
import { type Lifeline, type Turn, sleep } from '../lifeline.ts';
import type { QueueAddresses } from '../queue-keys.ts';
import type { RegisterName } from './access.ts';
import type { DriverRegisterPage } from './driver-register-page.ts';
import { legacyPageNumber } from './legacy-ring.ts';
import { RegisterChannel } from './register-channel.ts';

export interface RegisterTransportParts extends FrontendParts {
  readonly deviceType: number;
  readonly page: DriverRegisterPage;
  readonly accessPort: EvtchnPort;
  readonly interruptPort: EvtchnPort;
}

const { offset: AT, width: WIDTH } = VIRTIO_XENBUS_REGISTERS;
const STATUS_MAX = 0xff;
const WORD_BITS = 32n;
/** How often a driver looks whether a reset is complete. */
const RESET_INTERVAL_MIN_MS = 1;
const RESET_INTERVAL_MAX_MS = 16;

/** A driver's end of a connected device, register-page profile. Every operation is a row of register accesses. */
export class RegisterDriverTransport implements OpenedTransport {
  readonly deviceType: number;
  readonly capabilities: TransportCapabilities = REGISTER_PAGE_CAPABILITIES;
  readonly #aio: AioContext;
  readonly #lifeline: Lifeline;
  readonly #life: FrontendLife;
  readonly #channel: RegisterChannel;
  #queueCount = 0;
  #configSize = 0;
  readonly #isEnabled: boolean[] = [];
  readonly #callHandlers: ((() => void) | undefined)[] = [];
  #configHandler: (() => void) | undefined;
  #statusWritten = 0;
  /** What selects a queue has the selector for itself. */
  #queueTurn: Promise<unknown> = Promise.resolve();

  /** Reads what the device is. Rejects with `TransportError`; nothing runs any more then. */
  static async open(parts: RegisterTransportParts): Promise<RegisterDriverTransport> {
    const transport = new RegisterDriverTransport(parts);
    transport.#life.start();
    try {
      await transport.#identify();
      return transport;
    } catch (error) {
      await transport.abandon();
      throw error;
    }
  }

  private constructor(parts: RegisterTransportParts) {
    const { page, aio, lifeline, timeoutMs, events, accessPort, interruptPort } = parts;
    this.deviceType = parts.deviceType;
    this.#aio = aio;
    this.#lifeline = lifeline;
    this.#channel = new RegisterChannel({
      page,
      queueCountMax: VIRTIO_XENBUS_QUEUE_COUNT_MAX,
      aio,
      timeoutMs,
      send: () => void events.send(accessPort),
      onIsr: (isr) => this.#onIsr(isr),
    });
    this.#life = new FrontendLife({ ...parts, onOver: () => this.#channel.stop() });
    events.onEvent(accessPort, () => this.#channel.advance());
    events.onEvent(interruptPort, () => this.#channel.readIsr());
  }

  get queueCount(): number {
    return this.#queueCount;
  }

  async readDeviceFeatures(): Promise<FeatureBits> {
    return await this.#run('Reading the features', async (turn) => {
      const low = await this.#read(turn, 'host_features');
      const high = await this.#read(turn, 'host_features_high');
      return (BigInt(high) << WORD_BITS) | BigInt(low);
    });
  }

  async writeDriverFeatures(features: FeatureBits): Promise<void> {
    await this.#run('Writing the features', async (turn) => {
      await this.#write(turn, 'guest_features', Number(BigInt.asUintN(32, features)));
      await this.#write(turn, 'guest_features_high', Number(BigInt.asUintN(32, features >> WORD_BITS)));
    });
  }

  async readStatus(): Promise<number> {
    return await this.#run('Reading the status', (turn) => this.#read(turn, 'status'));
  }

  async writeStatus(status: number): Promise<void> {
    if (!(Number.isInteger(status) && status >= 0 && status <= STATUS_MAX)) {
      throw new RangeError(`${status} is no device status`);
    }
    await this.#run(`Status 0x${status.toString(16)}`, async (turn) => {
      this.#statusWritten = status;
      await this.#write(turn, 'status', status);
      if (status !== 0) return;
      await this.#untilReset(turn);
      this.#isEnabled.fill(false);
    });
  }

  async readQueueSizeMax(queue: number): Promise<number> {
    this.#life.requireAlive();
    if (!(Number.isInteger(queue) && queue >= 0 && queue < this.queueCount)) return 0;
    return await this.#withQueue(`Reading the size of queue ${queue}`, queue, async (turn) => {
      const size = await this.#read(turn, 'queue_num');
      if (size <= VIRTQUEUE_SIZE_MAX) return size;
      throw this.#life.breakOff(`Queue ${queue} has ${size} entries`);
    });
  }

  /**
   * A ring of the legacy layout and of all entries that there can be is told by its page number, any other by its areas.
   * Throws `TypeError` for a queue that is enabled already; rejects with `EIO` when the device refuses it.
   */
  async enableQueue(queue: number, addresses: QueueAddresses): Promise<void> {
    this.#requireQueue(queue);
    if (this.#isEnabled[queue] === true) throw new TypeError(`Queue ${queue} is enabled already`);
    this.#isEnabled[queue] = true;
    try {
      await this.#withQueue(`Enabling queue ${queue}`, queue, async (turn) => {
        const pageNumber = legacyPageNumber(addresses);
        const isWhole = addresses.size === (await this.#read(turn, 'queue_num'));
        if (isWhole && pageNumber !== 0) await this.#write(turn, 'queue_pfn', pageNumber);
        else await this.#writeAreas(turn, addresses);
        if ((await this.#read(turn, 'queue_enable')) === 1) return;
        throw new TransportError('EIO', `The device refused queue ${queue}`);
      });
    } catch (error) {
      this.#isEnabled[queue] = false;
      throw error;
    }
  }

  async resetQueue(queue: number): Promise<void> {
    this.#requireQueue(queue);
    throw new TransportError('ENOTSUP', 'The register page has no register that resets one queue');
  }

  async readConfigBytes(offset: number, out: Uint8Array): Promise<void> {
    this.#requireConfig(offset, out.length);
    await this.#run('Reading the configuration', async (turn) => {
      for (let at = 0; at < out.length;) {
        const size = accessSize(offset + at, out.length - at);
        const value = await this.#channel.read(turn, AT.config + offset + at, size);
        for (let index = 0; index < size; index += 1) out[at + index] = value >>> (8 * index);
        at += size;
      }
    });
  }

  async readConfigGeneration(): Promise<number> {
    return await this.#run('Reading the generation', (turn) => this.#read(turn, 'config_generation'));
  }

  async writeConfigBytes(offset: number, bytes: Uint8Array): Promise<void> {
    this.#requireConfig(offset, bytes.length);
    const copy = bytes.slice();
    const view = new DataView(copy.buffer);
    await this.#run('Writing the configuration', async (turn) => {
      for (let at = 0; at < copy.length;) {
        const size = accessSize(offset + at, copy.length - at);
        const value =
          size === 4 ? view.getUint32(at, true) : size === 2 ? view.getUint16(at, true) : view.getUint8(at);
        await this.#channel.write(turn, AT.config + offset + at, size, value);
        at += size;
      }
    });
  }

  kick(queue: number): void {
    if (this.#isEnabled[queue] === true) this.#channel.kick(queue);
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

  async #identify(): Promise<void> {
    await this.#run('Reading what the device is', async (turn) => {
      const version = await this.#read(turn, 'abi_version');
      if (version !== VIRTIO_XENBUS_ABI_VERSION)
        throw new TransportError('EPROTO', `The register file has the version ${version}`);
      const queueCount = await this.#read(turn, 'queue_count');
      const configSize = await this.#read(turn, 'config_size');
      if (queueCount > VIRTIO_XENBUS_QUEUE_COUNT_MAX || configSize > VIRTIO_XENBUS_REGISTER_CONFIG_SIZE_MAX)
        throw new TransportError('EPROTO', `${queueCount} queues, ${configSize} bytes of configuration`);
      this.#queueCount = queueCount;
      this.#configSize = configSize;
      for (let queue = 0; queue < queueCount; queue += 1) {
        this.#isEnabled.push(false);
        this.#callHandlers.push(undefined);
      }
    });
  }

  /** A device with I/O in flight shows its old status until it has let go of the driver's memory. */
  async #untilReset(turn: Turn): Promise<void> {
    let intervalMs = RESET_INTERVAL_MIN_MS;
    while ((await this.#read(turn, 'status')) !== 0 && !turn.isOver) {
      await sleep(this.#aio, intervalMs);
      intervalMs = Math.min(RESET_INTERVAL_MAX_MS, intervalMs * 2);
    }
  }

  async #writeAreas(
    turn: Turn,
    { size, descriptorArea, driverArea, deviceArea }: QueueAddresses,
  ): Promise<void> {
    const areas = { desc: descriptorArea, driver: driverArea, device: deviceArea } as const;
    await this.#write(turn, 'queue_size', size);
    for (const name of ['desc', 'driver', 'device'] as const) {
      await this.#write(turn, `queue_${name}_low`, Number(BigInt.asUintN(32, areas[name])));
      await this.#write(turn, `queue_${name}_high`, Number(BigInt.asUintN(32, areas[name] >> WORD_BITS)));
    }
    await this.#write(turn, 'queue_enable', 1);
  }

  /** One after the other: the selector is one register for all. */
  async #withQueue<T>(what: string, queue: number, body: (turn: Turn) => Promise<T>): Promise<T> {
    const turn = this.#queueTurn.then(() =>
      this.#run(what, async (own) => {
        await this.#write(own, 'queue_sel', queue);
        return await body(own);
      }),
    );
    this.#queueTurn = turn.catch(() => {}); // whoever asked is told
    return await turn;
  }

  async #run<T>(what: string, body: (turn: Turn) => Promise<T>): Promise<T> {
    return await this.#lifeline.run(what, body);
  }

  async #read(turn: Turn, name: RegisterName): Promise<number> {
    return await this.#channel.read(turn, AT[name], WIDTH[name]);
  }

  async #write(turn: Turn, name: RegisterName, value: number): Promise<void> {
    await this.#channel.write(turn, AT[name], WIDTH[name], value);
  }

  /** One interrupt for all: its reason is in the register, which queue is in the rings. */
  #onIsr(isr: number): void {
    if ((isr & VIRTIO_XENBUS_ISR_QUEUE) !== 0) {
      for (let queue = 0; queue < this.#queueCount; queue += 1) this.#callHandlers[queue]?.();
    }
    if ((isr & VIRTIO_XENBUS_ISR_CONFIG) !== 0) this.#configHandler?.();
  }

  #requireConfig(offset: number, size: number): void {
    if (Number.isInteger(offset) && offset >= 0 && offset + size <= this.#configSize) return;
    throw new RangeError(`Configuration bytes ${offset} to ${offset + size} of ${this.#configSize}`);
  }

  #requireQueue(queue: number): void {
    if (!(Number.isInteger(queue) && queue >= 0 && queue < this.queueCount))
      throw new RangeError(`No queue ${queue}`);
  }
}

/** The widest aligned access that does not reach beyond `size` bytes; device configuration begins aligned. */
function accessSize(offset: number, size: number): 1 | 2 | 4 {
  if (offset % 4 === 0 && size >= 4) return 4;
  return offset % 2 === 0 && size >= 2 ? 2 : 1;
}
