/** One device of several sessions, each of which serves some of its queues in a thread of its own. */
import type { VhostUserBackendEnd } from './backend-options.ts';
import type { MessageStream } from './connection.ts';
import { type ProtocolFault, protocolFault } from './fault.ts';
import { REQUESTS, type ReplyPayloads, type RequestPayloads } from './messages.ts';
import { RequestReceiver } from './request-receiver.ts';
import type { VhostUserBackend } from './serve.ts';
import { splitHandlers } from './split-handlers.ts';
import type { SplitVhostUserOptions } from './split-options.ts';
import { SplitSession } from './split-session.ts';
import { combinedStatus } from './split-status.ts';

/**
 * Serves a connection by several sessions of one device. Requests about a ring go to the session that has it, those about the
 * device to all; each is done everywhere before the next is looked at. What goes wrong is what it would be at one session, and
 * a session that ends takes the connection with it. Owns the stream, and the members'.
 *
 * @throws RangeError without members
 */
export function splitVhostUser(stream: MessageStream, options: SplitVhostUserOptions): VhostUserBackend {
  const { members, queueCount } = options;
  if (members.length === 0) throw new RangeError('A device of 0 sessions');
  const ended = Promise.withResolvers<VhostUserBackendEnd>();
  let cause: unknown;
  const session = new SplitSession(options);
  const receiver: RequestReceiver<RequestPayloads, ReplyPayloads> = new RequestReceiver({
    stream,
    table: REQUESTS,
    handlers: splitHandlers(session),
    decodeContext: () => session.decodeContext,
    hasFeature: (name) => session.hasProtocol(name),
    onRequest: (name) => options.onRequest?.(name),
    onRefusal: (reason) => options.onRefusal?.(reason),
    onEnd: (fault, error) => {
      session.end();
      const all = Promise.all(members.map(async (member) => await member.ended));
      void all.then(() => ended.resolve({ fault, error: error ?? cause }), ended.reject);
    },
  });
  for (const [index, member] of members.entries()) {
    void member.ended.then((end) => {
      if (receiver.isEnded) return;
      cause = end.error;
      receiver.close(end.fault ?? faultOf(index, options));
    });
  }
  const close = async (): Promise<VhostUserBackendEnd> => {
    receiver.close();
    return await ended.promise;
  };
  return {
    ended: ended.promise,
    status: () =>
      combinedStatus(
        members.map((member) => member.status()),
        queueCount,
      ),
    close,
    [Symbol.asyncDispose]: async () => {
      await close();
    },
  };
}

function faultOf(index: number, { members, queueCount }: SplitVhostUserOptions): ProtocolFault {
  const queues = Array.from({ length: queueCount }, (_, queue) => queue).filter(
    (queue) => queue % members.length === index,
  );
  return protocolFault('CLOSED', `whoever serves queue ${queues.join(', ')} has ended`);
}
