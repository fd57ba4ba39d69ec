/** One connection to a device of several sessions: what is negotiated of it, and each request's way to them. */
import { VHOST_USER_MAX_CONFIG_SIZE, type VhostUserProtocolFeature } from '@virtlab/abi/vhost-user';
import { closeFd } from '@virtlab/linux';
import { protocolFeatureBit } from './backend-options.ts';
import type { MessageFds } from './connection.ts';
import { type Outcome, bad, good } from './fault.ts';
import type { ReplyPayloads, RequestPayloads } from './messages.ts';
import type { DecodeContext } from './payload-codec.ts';
import { SplitBackChannel } from './split-back-channel.ts';
import { type RelayedReply, type RelayedRequest, type RequestName, SplitMembers } from './split-members.ts';
import type { SplitVhostUserOptions } from './split-options.ts';

/** A request with its descriptors, closed when it is done. */
export interface Incoming<Name extends RequestName> {
  readonly name: Name;
  readonly payload: RequestPayloads[Name];
  readonly fds: MessageFds;
  readonly needsReply: boolean;
}

export class SplitSession {
  readonly members: SplitMembers;
  readonly backChannel: SplitBackChannel;
  readonly #options: SplitVhostUserOptions;
  readonly #over: PromiseWithResolvers<undefined> = Promise.withResolvers();
  /** Queues that were started and not stopped. */
  readonly started: Set<number> = new Set();
  protocol = 0n;

  constructor(options: SplitVhostUserOptions) {
    this.#options = options;
    const decodeContext = (): DecodeContext => this.decodeContext;
    this.members = new SplitMembers(options.members, decodeContext);
    this.backChannel = new SplitBackChannel({
      memberCount: options.members.length,
      decodeContext,
      connect: async (member, fd) => {
        const request = {
          name: 'SET_BACKEND_REQ_FD',
          payload: undefined,
          fds: [fd],
          needsReply: true,
        } as const;
        const outcome = await this.#settled(await this.members.ask(member, request));
        return outcome.ok ? undefined : outcome.fault;
      },
      readConfig: async (member) => await this.#readConfig(member),
    });
  }

  get decodeContext(): DecodeContext {
    return { queueCount: this.#options.queueCount, hasXenMmap: this.hasProtocol('XEN_MMAP') };
  }

  hasProtocol(name: VhostUserProtocolFeature): boolean {
    return (this.protocol & protocolFeatureBit(name)) !== 0n;
  }

  /** Of one member. */
  async ask<Name extends RequestName>(
    member: number,
    incoming: Incoming<Name>,
  ): Promise<Outcome<RelayedReply<Name>>> {
    return await this.#relayed(incoming, async (request) => await this.members.ask(member, request));
  }

  /** Of all; what each answered, in order. */
  async askAll<Name extends RequestName>(
    incoming: Incoming<Name>,
  ): Promise<Outcome<readonly ReplyPayloads[Name][]>> {
    return await this.#relayed(incoming, async (request) => await this.members.askAll(request));
  }

  /** Of those with started rings before the others; of nobody once one has refused. */
  async askInTurn<Name extends RequestName>(incoming: Incoming<Name>): Promise<Outcome<undefined>> {
    const first = new Set([...this.started].map((queue) => this.members.ownerOf(queue)));
    return await this.#relayed(incoming, async (request) => await this.members.askInTurn(request, first));
  }

  /** Nobody waits for an answer any more. */
  end(): void {
    this.#over.resolve(undefined);
    this.members.close();
    this.backChannel[Symbol.dispose]();
  }

  async #relayed<Name extends RequestName, Value>(
    { fds, ...request }: Incoming<Name>,
    relay: (request: RelayedRequest<Name>) => Promise<Outcome<Value>>,
  ): Promise<Outcome<Value>> {
    const taken: number[] = [];
    for (let fd = fds.take(); fd !== undefined; fd = fds.take()) taken.push(fd);
    try {
      return await this.#settled(await relay({ ...request, fds: taken }));
    } finally {
      taken.forEach(closeFd);
    }
  }

  /** A session that ended takes the connection with it and says why: no other answer comes before that. */
  async #settled<Value>(outcome: Outcome<Value>): Promise<Outcome<Value>> {
    if (!outcome.ok && this.members.isAnyLost) await this.#over.promise;
    return outcome;
  }

  async #readConfig(member: number): Promise<Uint8Array | undefined> {
    if (!this.hasProtocol('CONFIG')) return undefined;
    const bytes = new Uint8Array(Math.min(this.#options.configSize, VHOST_USER_MAX_CONFIG_SIZE));
    const payload = { offset: 0, bytes, isMigration: false };
    const outcome = await this.members.ask(member, {
      name: 'GET_CONFIG',
      payload,
      fds: [],
      needsReply: true,
    });
    return outcome.ok ? outcome.value.value?.bytes : undefined;
  }
}

/** What all have said is one answer. */
export function combined<Value, Answer>(
  outcome: Outcome<readonly Value[]>,
  combine: (values: readonly Value[]) => Answer,
): Outcome<Answer> {
  return outcome.ok ? good(combine(outcome.value)) : bad(outcome.fault.code, outcome.fault.message);
}
