/** One connection of a driver to a device's process: the handshake, requests with their answers, and the back channel. */
import {
  VHOST_USER_F_PROTOCOL_FEATURES,
  VHOST_USER_MAX_MEM_REGIONS,
  VHOST_USER_PROTOCOL_F,
  type VhostUserProtocolFeature,
  type VhostUserRequest,
} from '@virtlab/abi/vhost-user';
import { UnixStream, closeFd, socketPair } from '@virtlab/linux';
import { TransportError } from '@virtlab/virtio';
import type { MessageStream } from './connection.ts';
import { type Outcome, type ProtocolFault, good, hex } from './fault.ts';
import { badAnswer, transportError } from './frontend-fault.ts';
import { QUEUE_COUNT_MAX, type ResolvedFrontendOptions } from './frontend-options.ts';
import {
  BACKEND_REQUESTS,
  type BackendReplyPayloads,
  type BackendRequestPayloads,
  REQUESTS,
  type ReplyPayloads,
  type RequestPayloads,
} from './messages.ts';
import type { DecodeContext } from './payload-codec.ts';
import { RequestReceiver } from './request-receiver.ts';
import { type Reply, RequestSender } from './request-sender.ts';

export type RequestName = VhostUserRequest;

export interface FrontendChannelEvents {
  onConfigChange(): void;
  /** Told once, when the channel was open and is over. Without a fault the device closed it, or this side did. */
  onEnd(fault: ProtocolFault | undefined): void;
}

/** More than this nobody needs, and each region is a descriptor that this side keeps open. */
const SLOT_COUNT_MAX = 512;
const PROTOCOL_FEATURES = 1n << BigInt(VHOST_USER_F_PROTOCOL_FEATURES);
const PROTOCOL_BITS = Object.entries(VHOST_USER_PROTOCOL_F) as [VhostUserProtocolFeature, number][];

export class FrontendChannel {
  /** The device has mapped the driver's memory. */
  isMemoryShared = false;
  /** Regions that the device takes at once. */
  memorySlotCount: number = VHOST_USER_MAX_MEM_REGIONS;
  readonly #options: ResolvedFrontendOptions;
  readonly #events: FrontendChannelEvents;
  readonly #sender: RequestSender<RequestPayloads, ReplyPayloads>;
  readonly #features = new Set<VhostUserProtocolFeature>();
  #back: RequestReceiver<BackendRequestPayloads, BackendReplyPayloads> | undefined;
  #offered = 0n;
  #queueCount = QUEUE_COUNT_MAX;
  #isOpen = false;

  private constructor(
    stream: MessageStream,
    options: ResolvedFrontendOptions,
    events: FrontendChannelEvents,
  ) {
    this.#options = options;
    this.#events = events;
    this.#sender = new RequestSender({
      stream,
      table: REQUESTS,
      decodeContext: () => this.#decodeContext(),
      aio: options.aio,
      timeoutMs: options.timeoutMs,
      onEnd: (fault) => this.#ended(fault),
    });
  }

  /** Owns the stream. Rejects with `TransportError`, and then nothing stays open. */
  static async open(
    stream: MessageStream,
    options: ResolvedFrontendOptions,
    events: FrontendChannelEvents,
  ): Promise<FrontendChannel> {
    const channel = new FrontendChannel(stream, options, events);
    try {
      await channel.#shakeHands();
      if (channel.isEnded) throw new TransportError('ENODEV', 'the device closed the connection');
      channel.#isOpen = true;
      return channel;
    } catch (error) {
      channel.close();
      throw error;
    }
  }

  get isEnded(): boolean {
    return this.#sender.isEnded;
  }
  get queueCount(): number {
    return this.#queueCount;
  }
  /** Device features as last asked for, those of the protocol itself included. */
  get offered(): bigint {
    return this.#offered;
  }
  /** Rings start disabled, and protocol features are in force. */
  get hasProtocolFeatures(): boolean {
    return (this.#offered & PROTOCOL_FEATURES) !== 0n;
  }

  has(feature: VhostUserProtocolFeature): boolean {
    return this.#features.has(feature);
  }

  /** A request that has a reply. Descriptors that come with it are closed. */
  async ask<Name extends RequestName>(
    name: Name,
    payload: RequestPayloads[Name],
  ): Promise<ReplyPayloads[Name]> {
    const { value, fds } = this.#taken(await this.#sender.request(name, payload));
    fds[Symbol.dispose]();
    return value;
  }

  /** The same; the descriptors are the caller's to dispose of. */
  async askForFds<Name extends RequestName>(
    name: Name,
    payload: RequestPayloads[Name],
  ): Promise<Reply<ReplyPayloads[Name]>> {
    return this.#taken(await this.#sender.request(name, payload));
  }

  /** A request without a reply: with REPLY_ACK resolves when the device has done it, else at once. */
  async tell<Name extends RequestName>(
    name: Name,
    payload: RequestPayloads[Name],
    fds: readonly number[] = [],
  ): Promise<void> {
    if (!this.has('REPLY_ACK')) {
      const fault = this.#sender.post(name, payload, fds);
      if (fault !== undefined) throw transportError(fault);
      return;
    }
    const { fds: none } = this.#taken(await this.#sender.request(name, payload, fds));
    none[Symbol.dispose]();
  }

  /** Resolves when the device has done everything that it was told, which without REPLY_ACK only an answer shows. */
  async settle(): Promise<void> {
    if (!this.has('REPLY_ACK')) await this.readFeatures();
  }

  async readFeatures(): Promise<bigint> {
    this.#offered = await this.ask('GET_FEATURES', undefined);
    return this.#offered;
  }

  /** The device said what it must not: ends the channel, and is what to throw. */
  fail(fault: ProtocolFault): TransportError {
    this.#sender.close(fault);
    return transportError(fault);
  }

  close(): void {
    this.#sender.close();
    this.#back?.close();
  }

  async #shakeHands(): Promise<void> {
    await this.readFeatures();
    if (this.hasProtocolFeatures) await this.#negotiate();
    this.#queueCount = await this.#countQueues();
    if (this.has('CONFIGURE_MEM_SLOTS')) {
      const slots = await this.ask('GET_MAX_MEM_SLOTS', undefined);
      if (slots === 0n) throw this.fail(badAnswer('GET_MAX_MEM_SLOTS', 'slots', slots, '1 or more'));
      this.memorySlotCount = slots < BigInt(SLOT_COUNT_MAX) ? Number(slots) : SLOT_COUNT_MAX;
    }
    if (this.has('BACKEND_REQ') && this.has('CONFIG')) await this.#openBackChannel();
    await this.tell('SET_OWNER', undefined);
  }

  async #negotiate(): Promise<void> {
    const offered = await this.ask('GET_PROTOCOL_FEATURES', undefined);
    const wanted = this.#options.protocolFeatures;
    const accepted = PROTOCOL_BITS.filter(
      ([name, bit]) => wanted.has(name) && (offered & (1n << BigInt(bit))) !== 0n,
    );
    const word = accepted.reduce((bits, [, bit]) => bits | (1n << BigInt(bit)), 0n);
    // Whether messages may be acknowledged is what this one settles, so it cannot be.
    await this.tell('SET_PROTOCOL_FEATURES', word);
    for (const [name] of accepted) this.#features.add(name);
  }

  async #countQueues(): Promise<number> {
    const { queueCount, queueCountDefault } = this.#options;
    if (!this.has('MQ')) return queueCount ?? queueCountDefault;
    const said = await this.ask('GET_QUEUE_NUM', undefined);
    if (said === 0n || said > BigInt(QUEUE_COUNT_MAX)) {
      throw this.fail(badAnswer('GET_QUEUE_NUM', 'count', said, `1 to ${QUEUE_COUNT_MAX}`));
    }
    // Of a network card the number may mean pairs, and the control queue is not in it.
    if (queueCountDefault !== 1) return queueCount ?? queueCountDefault;
    if (queueCount !== undefined && BigInt(queueCount) > said) {
      throw new TransportError('ENOTSUP', `The device has ${said} queues, not ${queueCount}`);
    }
    return queueCount ?? Number(said);
  }

  async #openBackChannel(): Promise<void> {
    const [ours, theirs] = socketPair();
    const answered = good(undefined);
    this.#back = new RequestReceiver<BackendRequestPayloads, BackendReplyPayloads>({
      stream: UnixStream.fromFd(ours),
      table: BACKEND_REQUESTS,
      decodeContext: () => this.#decodeContext(),
      hasFeature: (feature) => this.has(feature),
      handlers: {
        CONFIG_CHANGE_MSG: () => {
          this.#events.onConfigChange();
          return answered;
        },
      },
      onEnd: (fault, error) => {
        if (error !== undefined) throw error;
        if (fault === undefined || fault.code === 'CLOSED') return;
        this.fail({ ...fault, message: `back channel: ${fault.message}` });
      },
    });
    try {
      await this.tell('SET_BACKEND_REQ_FD', undefined, [theirs]);
    } finally {
      closeFd(theirs);
    }
  }

  #taken<Value>(outcome: Outcome<Reply<Value>>): Reply<Value> {
    if (!outcome.ok) throw transportError(outcome.fault);
    return outcome.value;
  }

  #decodeContext(): DecodeContext {
    return { queueCount: this.#queueCount, hasXenMmap: this.has('XEN_MMAP') };
  }

  #ended(fault: ProtocolFault | undefined): void {
    this.#back?.close();
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#events.onEnd(fault);
  }
}

/** `0x` and the bits that `offered` lacks of `needed`; undefined when it lacks none. */
export function missingBits(offered: bigint, needed: bigint): string | undefined {
  const missing = needed & ~offered;
  return missing === 0n ? undefined : hex(missing);
}
