/** One queue of a driver's link: its doorbells, and the messages that set it up, start and stop it. */
import { EventFd } from '@virtlab/linux';
import type { DriverTransport, HandOverHandler } from '@virtlab/virtio';
import { badAnswer } from './frontend-fault.ts';
import type { FrontendChannel } from './frontend-channel.ts';
import type { DoorbellAioContext } from './frontend-options.ts';

export type QueueAddresses = Parameters<DriverTransport['enableQueue']>[1];
export type QueuePosition = NonNullable<ReturnType<HandOverHandler>>;

const USED_SHIFT = 16;
const HALF_MASK = 0xffff;
/** Where a new ring starts: a packed one in slot 0 with both wrap counters 1 (§2.8.1). */
const SPLIT_START: QueuePosition = { available: 0, used: 0 };
const PACKED_START: QueuePosition = { available: 0x8000, used: 0x8000 };

/** An event file descriptor that the device's process writes, and who is told. */
export class IncomingDoorbell implements Disposable {
  readonly #eventFd = EventFd.create();
  readonly #notifier: Disposable;
  readonly #handler: Disposable;

  constructor(aio: DoorbellAioContext, onRing: () => void) {
    const notifier = aio.createEventFdNotifier(this.#eventFd);
    this.#notifier = notifier;
    this.#handler = aio.addHandler(notifier, { onReady: onRing });
  }

  get fd(): number {
    return this.#eventFd.fd;
  }

  /** As if the device had. */
  ring(): void {
    this.#eventFd.write();
  }

  [Symbol.dispose](): void {
    this.#handler[Symbol.dispose]();
    this.#notifier[Symbol.dispose]();
    this.#eventFd.close();
  }
}

export class FrontendRing implements Disposable {
  readonly index: number;
  readonly #kick = EventFd.create();
  readonly #call: IncomingDoorbell;
  #addresses: QueueAddresses | undefined;
  #isStarted = false;
  #stoppedAt: QueuePosition | undefined;

  constructor(index: number, aio: DoorbellAioContext, onCall: () => void) {
    this.index = index;
    this.#call = new IncomingDoorbell(aio, onCall);
  }

  /** Where the driver has it, since it enabled the queue; undefined after a reset. */
  get addresses(): QueueAddresses | undefined {
    return this.#addresses;
  }
  get isStarted(): boolean {
    return this.#isStarted;
  }
  /** What GET_VRING_BASE told, since the ring was started last; of a split ring `used` means nothing. */
  get stoppedAt(): QueuePosition | undefined {
    return this.#stoppedAt;
  }

  kick(): void {
    this.#kick.write();
  }

  /** Runs the call's handler soon. */
  call(): void {
    this.#call.ring();
  }

  /** The driver enabled the queue. */
  place(addresses: QueueAddresses): void {
    this.#addresses = addresses;
    this.#stoppedAt = undefined;
  }

  /** The queue was reset; `stop` may still have to tell the device. */
  forget(): void {
    this.#addresses = undefined;
  }

  /** The connection ended, and with it what the device knew. */
  lost(): void {
    this.#isStarted = false;
  }

  /** NUM, BASE and ADDR. `start` is where a ring in use goes on. */
  async setUp(channel: FrontendChannel, isPacked: boolean, start?: QueuePosition): Promise<void> {
    const { index } = this;
    const { size, descriptorArea, driverArea, deviceArea } = this.#addresses!;
    const position = start ?? (isPacked ? PACKED_START : SPLIT_START);
    const base = isPacked ? (position.available | (position.used << USED_SHIFT)) >>> 0 : position.available;
    await channel.tell('SET_VRING_NUM', { index, num: size });
    await channel.tell('SET_VRING_BASE', { index, num: base });
    await channel.tell('SET_VRING_ADDR', {
      index,
      isLogged: false,
      descriptorArea,
      driverArea,
      deviceArea,
      logAddress: 0n,
    });
  }

  /** The doorbells; "Ring states": the ring is started by its kick, and disabled until told otherwise. */
  async start(channel: FrontendChannel, errorFd: number): Promise<void> {
    const payload = { index: this.index, hasFd: true };
    await channel.tell('SET_VRING_ERR', payload, [errorFd]);
    await channel.tell('SET_VRING_CALL', payload, [this.#call.fd]);
    this.#isStarted = true;
    this.#stoppedAt = undefined;
    await channel.tell('SET_VRING_KICK', payload, [this.#kick.fd]);
  }

  async enable(channel: FrontendChannel): Promise<void> {
    if (!channel.hasProtocolFeatures) return;
    await channel.tell('SET_VRING_ENABLE', { index: this.index, num: 1 });
  }

  /** Resolves when the device does not touch the ring any more. */
  async stop(channel: FrontendChannel): Promise<void> {
    const { index } = this;
    const base = await channel.ask('GET_VRING_BASE', { index, num: 0 });
    if (base.index !== index)
      throw channel.fail(badAnswer('GET_VRING_BASE', 'index', base.index, `${index}`));
    this.#isStarted = false;
    this.#stoppedAt = { available: base.num & HALF_MASK, used: base.num >>> USED_SHIFT };
    // Not before: of a ring that is disabled and not stopped a network device discards what is sent.
    if (channel.hasProtocolFeatures) await channel.tell('SET_VRING_ENABLE', { index, num: 0 });
  }

  [Symbol.dispose](): void {
    this.#call[Symbol.dispose]();
    this.#kick.close();
  }
}
