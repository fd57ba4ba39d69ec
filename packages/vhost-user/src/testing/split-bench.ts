/** A splitter between a sender and members that are only scripts, which note what reaches them. */
import { UnixStream, closeFd, openFdCount } from '@virtlab/linux';
import { expect } from 'vitest';
import type { VhostUserBackendEnd } from '../backend-options.ts';
import { REQUESTS, type ReplyPayloads, type RequestPayloads } from '../messages.ts';
import { type Handlers, RequestReceiver } from '../request-receiver.ts';
import type { RequestSender } from '../request-sender.ts';
import type { VhostUserBackend } from '../serve.ts';
import { splitVhostUser } from '../split.ts';
import { CONTEXT, startSender, streamPair } from './channel-pair.ts';

type Script = Handlers<RequestPayloads, ReplyPayloads>;

export interface SplitBench {
  readonly sender: RequestSender<RequestPayloads, ReplyPayloads>;
  readonly backend: VhostUserBackend;
  /** Requests as they reached members: number, name, queue if of one, and how many descriptors came. */
  readonly seen: string[];
  /** Ends a member as the death of its thread does: nothing is said on its stream. */
  kill(member: number, end: VhostUserBackendEnd): void;
}

/** Each member does by its script, and else what is asked, with answers of 0. Asserts that no descriptor is left. */
export async function withSplit(
  scripts: readonly Script[],
  body: (bench: SplitBench) => Promise<void>,
): Promise<void> {
  const before = openFdCount();
  const seen: string[] = [];
  const kills: ((end: VhostUserBackendEnd) => void)[] = [];
  const receivers: { close(): void }[] = [];
  const members = scripts.map((script, index) => {
    const [ours, theirs] = streamPair();
    const { promise, resolve } = Promise.withResolvers<VhostUserBackendEnd>();
    let tell: (reason: string) => void = () => {};
    kills.push(resolve);
    receivers.push(
      new RequestReceiver({
        stream: theirs,
        table: REQUESTS,
        handlers: { ...defaults(index, seen), ...script },
        decodeContext: () => CONTEXT,
        hasFeature: () => true,
        onRefusal: (reason) => tell(reason),
        onEnd: (fault, error) => resolve({ fault, error }),
      }),
    );
    const onRefusal = (hear: (reason: string) => void): void => void (tell = hear);
    return { stream: ours, ended: promise, status: () => undefined, onRefusal };
  });
  const [ours, theirs] = streamPair();
  const backend = splitVhostUser(theirs, { members, queueCount: CONTEXT.queueCount, configSize: 8 });
  const sender = startSender(ours);
  try {
    await body({ sender, backend, seen, kill: (member, end) => kills[member]!(end) });
  } finally {
    sender.close();
    await backend.ended;
    for (const receiver of receivers) receiver.close();
  }
  expect(openFdCount() - before, 'file descriptors').toBe(0);
}

/** Notes, and answers what a device of four queues may. */
function defaults(index: number, seen: string[]): Script {
  const answers: Partial<ReplyPayloads> = {
    GET_FEATURES: 0n,
    GET_PROTOCOL_FEATURES: ~0n & 0xffff_ffffn,
    GET_QUEUE_NUM: BigInt(CONTEXT.queueCount),
    GET_MAX_MEM_SLOTS: 7n,
    GET_STATUS: 0n,
    SET_LOG_BASE: 0n,
  };
  const handlerOf = (name: keyof RequestPayloads) => (payload: unknown, fds: { readonly count: number }) => {
    const queue = (payload as { readonly index?: number } | undefined)?.index;
    if (name !== 'GET_FEATURES') {
      const about = queue === undefined ? '' : ` ${queue}`;
      seen.push(`${index} ${name}${about}${fds.count === 0 ? '' : ` +${fds.count}`}`);
    }
    const isEcho = name === 'GET_VRING_BASE' || name === 'GET_CONFIG';
    return { ok: true, value: isEcho ? payload : answers[name] } as const;
  };
  const names = Object.keys(REQUESTS) as (keyof RequestPayloads)[];
  return Object.fromEntries(names.map((name) => [name, handlerOf(name)]));
}

/** The far end of what a member was given as its back channel. */
export function streamOf(fds: { take(): number | undefined }): UnixStream {
  return UnixStream.fromFd(fds.take()!, { fdsMax: 0 });
}

export function closeAll(...fds: readonly number[]): void {
  fds.forEach(closeFd);
}
