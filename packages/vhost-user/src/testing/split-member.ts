import type { ServeVhostUserOptions } from '../backend-options.ts';
import { serveVhostUser } from '../serve.ts';
import type { SplitMember } from '../split-options.ts';
import { streamPair } from './channel-pair.ts';

/** A session of a split device in this thread. What it refuses is told late, as from another. */
export function serveMember(options: ServeVhostUserOptions): SplitMember {
  const [stream, theirs] = streamPair();
  let hear: (reason: string) => void = () => {};
  const backend = serveVhostUser(theirs, {
    ...options,
    onRefusal: (reason) => void setImmediate(() => hear(reason)),
  });
  return {
    stream,
    ended: backend.ended,
    status: () => backend.status(),
    onRefusal: (told) => void (hear = told),
  };
}
