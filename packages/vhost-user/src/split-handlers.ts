/** Where each request goes at a device of several sessions, and what their answers make together. */
import { VIRTIO_CONFIG_S_NEEDS_RESET } from '@virtlab/abi/virtio';
import { type Outcome, good } from './fault.ts';
import type { ReplyPayloads, RequestPayloads } from './messages.ts';
import { type Answer, type Handlers, answered } from './request-receiver.ts';
import type { RequestName } from './split-members.ts';
import { type SplitSession, combined } from './split-session.ts';

type AllHandlers = Handlers<RequestPayloads, ReplyPayloads>;
type Handler<Name extends RequestName> = NonNullable<AllHandlers[Name]>;

const NEEDS_RESET = BigInt(VIRTIO_CONFIG_S_NEEDS_RESET);

/** Requests of one ring. */
type RingRequest = {
  [Name in RequestName]: RequestPayloads[Name] extends { readonly index: number } ? Name : never;
}[RequestName];

/** Requests whose answer is no more than that they were done. */
type PlainRequest = {
  [Name in RequestName]: ReplyPayloads[Name] extends undefined ? Name : never;
}[RequestName];

export function splitHandlers(session: SplitSession): AllHandlers {
  return { ...ringHandlers(session), ...deviceHandlers(session), ...questionHandlers(session) };
}

function ringHandlers(session: SplitSession): AllHandlers {
  const { started } = session;
  return {
    SET_VRING_NUM: toOwner(session, 'SET_VRING_NUM'),
    SET_VRING_ADDR: toOwner(session, 'SET_VRING_ADDR'),
    SET_VRING_BASE: toOwner(session, 'SET_VRING_BASE'),
    GET_VRING_BASE: toOwner(session, 'GET_VRING_BASE', (queue) => started.delete(queue)),
    SET_VRING_KICK: toOwner(session, 'SET_VRING_KICK', (queue) => started.add(queue)),
    SET_VRING_CALL: toOwner(session, 'SET_VRING_CALL'),
    SET_VRING_ERR: toOwner(session, 'SET_VRING_ERR'),
    SET_VRING_ENABLE: toOwner(session, 'SET_VRING_ENABLE'),
    VRING_KICK: toOwner(session, 'VRING_KICK', (queue) => started.add(queue)),
  };
}

function deviceHandlers(session: SplitSession): AllHandlers {
  const { started } = session;
  return {
    SET_OWNER: toAll(session, 'SET_OWNER'),
    RESET_OWNER: toAll(session, 'RESET_OWNER'),
    SET_MEM_TABLE: toAll(session, 'SET_MEM_TABLE'),
    ADD_MEM_REG: toAll(session, 'ADD_MEM_REG'),
    REM_MEM_REG: toAll(session, 'REM_MEM_REG'),
    SET_LOG_FD: toAll(session, 'SET_LOG_FD'),
    SET_CONFIG: toAll(session, 'SET_CONFIG'),
    NET_SET_MTU: toAll(session, 'NET_SET_MTU'),
    RESET_DEVICE: toAll(session, 'RESET_DEVICE', () => started.clear()),
    SET_STATUS: toAll(session, 'SET_STATUS', (status) => status === 0n && started.clear()),
    // Both are refused while rings run, by sessions whose rings do.
    SET_FEATURES: inTurn(session, 'SET_FEATURES'),
    SET_INFLIGHT_FD: inTurn(session, 'SET_INFLIGHT_FD'),
    async SET_PROTOCOL_FEATURES(payload, fds, needsReply) {
      const before = session.protocol;
      // Meanwhile only what holds before and after.
      session.protocol = before & payload;
      const request = { name: 'SET_PROTOCOL_FEATURES', payload, fds, needsReply } as const;
      const outcome = await session.askAll(request);
      session.protocol = outcome.ok ? payload : before;
      return plain(outcome);
    },
    SET_BACKEND_REQ_FD: async (_, fds) => answered(await session.backChannel.open(fds)),
  };
}

function questionHandlers(session: SplitSession): AllHandlers {
  /** What all sessions have. */
  const common = (values: readonly bigint[]): bigint => values.reduce((left, right) => left & right);
  const one = <Name extends RequestName>(name: Name, member: () => number = () => 0): Handler<Name> => {
    return (async (payload: RequestPayloads[Name], fds, needsReply) => {
      const outcome = await session.ask(member(), { name, payload, fds, needsReply });
      return outcome.ok ? { ok: true, ...outcome.value } : outcome;
    }) as Handler<Name>;
  };
  const all = (
    name: 'GET_FEATURES' | 'GET_PROTOCOL_FEATURES' | 'GET_STATUS',
    combine: (values: readonly bigint[]) => bigint,
  ): Handler<typeof name> => {
    return async (payload, fds, needsReply) =>
      combined(await session.askAll({ name, payload, fds, needsReply }), combine);
  };
  return {
    GET_FEATURES: all('GET_FEATURES', common),
    GET_PROTOCOL_FEATURES: all('GET_PROTOCOL_FEATURES', common),
    // One that needs a reset is a device that does.
    GET_STATUS: all('GET_STATUS', (values) => {
      return common(values) | (values.reduce((left, right) => left | right) & NEEDS_RESET);
    }),
    async SET_LOG_BASE(payload, fds, needsReply) {
      const outcome = await session.askAll({ name: 'SET_LOG_BASE', payload, fds, needsReply });
      return combined(outcome, (values) => values.find((value) => value !== 0n) ?? 0n);
    },
    GET_QUEUE_NUM: one('GET_QUEUE_NUM'),
    GET_MAX_MEM_SLOTS: one('GET_MAX_MEM_SLOTS'),
    GET_INFLIGHT_FD: one('GET_INFLIGHT_FD'),
    GET_CONFIG: one('GET_CONFIG', () => session.backChannel.speaker),
  };
}

/** To the session that has the ring. `done` is told before the answer, of what was done. */
function toOwner<Name extends RingRequest>(
  session: SplitSession,
  name: Name,
  done: (queue: number) => unknown = () => {},
): Handler<Name> {
  return (async (payload: RequestPayloads[Name], fds, needsReply) => {
    const { index } = payload;
    const outcome = await session.ask(session.members.ownerOf(index), { name, payload, fds, needsReply });
    if (outcome.ok) done(index);
    return outcome.ok ? { ok: true, ...outcome.value } : outcome;
  }) as Handler<Name>;
}

function toAll<Name extends PlainRequest>(
  session: SplitSession,
  name: Name,
  done: (payload: RequestPayloads[Name]) => unknown = () => {},
): Handler<Name> {
  return (async (payload: RequestPayloads[Name], fds, needsReply) => {
    const outcome = await session.askAll({ name, payload, fds, needsReply });
    if (outcome.ok) done(payload);
    return plain(outcome);
  }) as Handler<Name>;
}

function inTurn<Name extends PlainRequest>(session: SplitSession, name: Name): Handler<Name> {
  return (async (payload: RequestPayloads[Name], fds, needsReply) => {
    return plain(await session.askInTurn({ name, payload, fds, needsReply }));
  }) as Handler<Name>;
}

function plain(outcome: Outcome<unknown>): Answer<undefined> {
  return outcome.ok ? good(undefined) : outcome;
}
