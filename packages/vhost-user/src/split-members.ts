/** The sessions behind a splitter, as it talks to them: one message at a time, and none begun before the one before is done. */
import { type Outcome, type ProtocolFault, bad, good } from './fault.ts';
import { REQUESTS, type ReplyPayloads, type RequestPayloads } from './messages.ts';
import type { DecodeContext } from './payload-codec.ts';
import { RefusalReasons } from './refusal-reasons.ts';
import { RequestSender } from './request-sender.ts';
import { type SplitMember, memberOf } from './split-options.ts';

export type RequestName = keyof RequestPayloads & keyof ReplyPayloads;

/** A request as the other side sent it. The descriptors stay the caller's. */
export interface RelayedRequest<Name extends RequestName> {
  readonly name: Name;
  readonly payload: RequestPayloads[Name];
  readonly fds: readonly number[];
  /** The other side wants to know. What goes wrong otherwise ends the session that it goes wrong in, with a message. */
  readonly needsReply: boolean;
}

/** What a session answered, and the descriptors that came with it, which are the receiver's. */
export interface RelayedReply<Name extends RequestName> {
  readonly value: ReplyPayloads[Name];
  readonly fds: readonly number[];
}

type Sender = RequestSender<RequestPayloads, ReplyPayloads>;

export class SplitMembers {
  readonly #senders: readonly Sender[];
  readonly #reasons: readonly RefusalReasons[];

  constructor(members: readonly SplitMember[], decodeContext: () => DecodeContext) {
    this.#reasons = members.map((member) => {
      const reasons = new RefusalReasons();
      member.onRefusal((reason) => reasons.tell(reason));
      return reasons;
    });
    this.#senders = members.map(({ stream }, index) => {
      const onEnd = (): void => this.#reasons[index]!.end();
      return new RequestSender({ stream, table: REQUESTS, decodeContext, onEnd });
    });
  }

  get count(): number {
    return this.#senders.length;
  }
  get isAnyLost(): boolean {
    return this.#senders.some(({ isEnded }) => isEnded);
  }

  ownerOf(queue: number): number {
    return memberOf(queue, this.count);
  }

  /** Resolves when one has done it, or with why it has not. */
  async ask<Name extends RequestName>(
    index: number,
    { name, payload, fds, needsReply }: RelayedRequest<Name>,
  ): Promise<Outcome<RelayedReply<Name>>> {
    const sender = this.#senders[index]!;
    if (needsReply || REQUESTS[name].reply !== undefined) {
      const outcome = await sender.request(name, payload, fds);
      if (!outcome.ok) return { ok: false, fault: await this.#reasonFor(index, outcome.fault) };
      const received: number[] = [];
      const reply = outcome.value;
      for (let fd = reply.fds.take(); fd !== undefined; fd = reply.fds.take()) received.push(fd);
      return good({ value: reply.value, fds: received });
    }
    const fault = sender.post(name, payload, fds);
    if (fault !== undefined) return { ok: false, fault };
    // Without an acknowledgement the answer to the next request shows that this one is done.
    const passed = await sender.request('GET_FEATURES', undefined);
    return passed.ok ? good({ value: undefined as ReplyPayloads[Name], fds: [] }) : passed;
  }

  /** Resolves when all have done it, or answered that they did not: the first that did not is the answer then. */
  async askAll<Name extends RequestName>(
    request: RelayedRequest<Name>,
  ): Promise<Outcome<readonly ReplyPayloads[Name][]>> {
    const outcomes = await Promise.all(this.#senders.map(async (_, index) => await this.ask(index, request)));
    const values: ReplyPayloads[Name][] = [];
    let refused: Outcome<readonly ReplyPayloads[Name][]> | undefined;
    for (const outcome of outcomes) {
      if (outcome.ok) values.push(outcome.value.value);
      else refused ??= outcome;
    }
    return refused ?? good(values);
  }

  /**
   * One after the other, `first` before the rest; nobody is asked behind one that refuses. For what a session refuses because of
   * its own rings: those that have some say so before others have done it.
   */
  async askInTurn<Name extends RequestName>(
    request: RelayedRequest<Name>,
    first: ReadonlySet<number>,
  ): Promise<Outcome<undefined>> {
    const all = this.#senders.map((_, index) => index);
    const order = [...all.filter((index) => first.has(index)), ...all.filter((index) => !first.has(index))];
    for (const index of order) {
      const outcome = await this.ask(index, request);
      if (!outcome.ok) return bad(outcome.fault.code, outcome.fault.message);
    }
    return good(undefined);
  }

  close(): void {
    for (const sender of this.#senders) sender.close();
  }

  /** An acknowledgement only says that something was refused. */
  async #reasonFor(index: number, fault: ProtocolFault): Promise<ProtocolFault> {
    if (fault.code !== 'REFUSED') return fault;
    return { code: 'REFUSED', message: (await this.#reasons[index]!.next()) ?? fault.message };
  }
}
