import type { MessageStream } from './connection.ts';
import type { VhostUserBackendEnd } from './backend-options.ts';
import type { VhostUserBackendStatus } from './serve.ts';

/**
 * One of the sessions that a device is made of: `serveVhostUser` at the other end of `stream`, in whatever thread, with a device
 * that has all the queues and is given its own.
 */
export interface SplitMember {
  /** The splitter's from here on: closing it ends the session. */
  readonly stream: MessageStream;
  /** How the session ended, once it has given everything back, or how its thread did. Never rejects. */
  readonly ended: Promise<VhostUserBackendEnd>;
  /** As it was last heard of; undefined before that. */
  status(): VhostUserBackendStatus | undefined;
  /**
   * Called once: `hear` is to be told each reason that the session's own `onRefusal` is, in order. The splitter's answer to a
   * refusal waits for it, or for the end of the session.
   */
  onRefusal(hear: (reason: string) => void): void;
}

export interface SplitVhostUserOptions {
  /** At least one. Queue q is served by member q mod the number of members. */
  readonly members: readonly SplitMember[];
  /** Queues of the device. */
  readonly queueCount: number;
  /** Bytes of its configuration space. */
  readonly configSize: number;
  /** Each request that is in order, before it is done. */
  onRequest?(name: string): void;
  /** As that of `serveVhostUser`: one refusal, whatever the number of sessions that did. */
  onRefusal?(reason: string): void;
}

/** Which member serves a queue. */
export function memberOf(queue: number, memberCount: number): number {
  return queue % memberCount;
}
