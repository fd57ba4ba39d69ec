import { UnixStream, socketPair } from '@virtlab/linux';
import type { ProtocolFault } from '../fault.ts';
import { REQUESTS, type ReplyPayloads, type RequestPayloads } from '../messages.ts';
import { type Handlers, RequestReceiver } from '../request-receiver.ts';
import { RequestSender } from '../request-sender.ts';

export const CONTEXT = { queueCount: 4, hasXenMmap: false } as const;

/** Two connected streams. */
export function streamPair(): readonly [UnixStream, UnixStream] {
  const [left, right] = socketPair();
  return [UnixStream.fromFd(left), UnixStream.fromFd(right)];
}

export interface ChannelEnd {
  /** Resolves when the channel is over. */
  readonly ended: Promise<ProtocolFault | undefined>;
  readonly receiver: RequestReceiver<RequestPayloads, ReplyPayloads>;
}

export function startReceiver(
  stream: UnixStream,
  handlers: Handlers<RequestPayloads, ReplyPayloads>,
): ChannelEnd {
  const { promise, resolve } = Promise.withResolvers<ProtocolFault | undefined>();
  const receiver = new RequestReceiver({
    stream,
    table: REQUESTS,
    handlers,
    decodeContext: () => CONTEXT,
    hasFeature: () => true,
    onEnd: resolve,
  });
  return { ended: promise, receiver };
}

export function startSender(
  stream: UnixStream,
  onEnd: (fault: ProtocolFault | undefined) => void = () => {},
): RequestSender<RequestPayloads, ReplyPayloads> {
  return new RequestSender({ stream, table: REQUESTS, decodeContext: () => CONTEXT, onEnd });
}
