/**
 * The back channel of a device whose sessions are several: each has one to here, and the other side's is served from here, so
 * that calls and errors of all rings reach it, and a change of the configuration once.
 */
import { UnixStream, closeFd, socketPair } from '@virtlab/linux';
import { BackChannel } from './back-channel.ts';
import type { MessageFds } from './connection.ts';
import { type ProtocolFault, protocolFault } from './fault.ts';
import { BACKEND_REQUESTS, type BackendReplyPayloads, type BackendRequestPayloads } from './messages.ts';
import type { DecodeContext } from './payload-codec.ts';
import { RequestReceiver, answered } from './request-receiver.ts';

export interface SplitBackChannelOptions {
  readonly memberCount: number;
  decodeContext(): DecodeContext;
  /** Gives a session its end; the descriptor stays the caller's. */
  connect(member: number, fd: number): Promise<ProtocolFault | undefined>;
  /** The configuration as a session has it; undefined when it cannot be read. */
  readConfig(member: number): Promise<Uint8Array | undefined>;
}

type Relay = RequestReceiver<BackendRequestPayloads, BackendReplyPayloads>;

export class SplitBackChannel implements Disposable {
  readonly #options: SplitBackChannelOptions;
  #relays: Relay[] = [];
  #channel: BackChannel | undefined;
  /** Whose configuration the other side is told of and reads: who told of a change that nobody had told of. */
  #speaker = 0;
  /** The configuration of which it was told last. */
  #told: Uint8Array | undefined;
  #isEnded = false;

  constructor(options: SplitBackChannelOptions) {
    this.#options = options;
  }

  get speaker(): number {
    return this.#speaker;
  }

  /** SET_BACKEND_REQ_FD. */
  async open(fds: MessageFds): Promise<ProtocolFault | undefined> {
    const channel = BackChannel.from(fds, () => this.#options.decodeContext());
    if (!channel.ok) return channel.fault;
    this.#channel?.[Symbol.dispose]();
    this.#channel = channel.value;
    for (let member = this.#relays.length; member < this.#options.memberCount; member += 1) {
      const fault = await this.#connect(member);
      if (fault !== undefined) return fault;
      if (this.#isEnded) return protocolFault('CLOSED', 'the connection ended meanwhile');
    }
    return undefined;
  }

  [Symbol.dispose](): void {
    this.#isEnded = true;
    this.#channel?.[Symbol.dispose]();
    for (const relay of this.#relays.splice(0)) relay.close();
  }

  async #connect(member: number): Promise<ProtocolFault | undefined> {
    const [ours, theirs] = socketPair();
    this.#relays.push(
      new RequestReceiver({
        stream: UnixStream.fromFd(ours, { fdsMax: 0 }),
        table: BACKEND_REQUESTS,
        handlers: {
          CONFIG_CHANGE_MSG: async () => {
            await this.#configChanged(member);
            return answered(undefined);
          },
          // Acknowledged at once: the channel to the other side waits for its own acknowledgements.
          VRING_CALL: ({ index }) => {
            this.#channel?.call(index);
            return answered(undefined);
          },
          VRING_ERR: ({ index }) => {
            this.#channel?.error(index);
            return answered(undefined);
          },
        },
        decodeContext: () => this.#options.decodeContext(),
        // A session says only what was negotiated.
        hasFeature: () => true,
        onEnd: () => {},
      }),
    );
    try {
      return await this.#options.connect(member, theirs);
    } finally {
      closeFd(theirs);
    }
  }

  /** All have the same configuration and hear of a change one by one: the first is passed on, the others are not. */
  async #configChanged(member: number): Promise<void> {
    const config = await this.#options.readConfig(member);
    if (config === undefined || this.#isEnded) return;
    const told = this.#told;
    const isKnown = told?.length === config.length && config.every((byte, at) => byte === told[at]);
    if (isKnown && member !== this.#speaker) return;
    this.#speaker = member;
    this.#told = config;
    this.#channel?.configChanged();
  }
}
