import { XS_CONTROL, XS_DIRECTORY_PART, XS_TRANSACTION_END } from '@virtlab/abi/xs-wire';

/** A value that belongs to a daemon's implementation and not to its behaviour. */
export interface Mask {
  readonly name: string;
  readonly reason: string;
  /** The reply's payload with the value replaced, or as it is. */
  apply(requestType: number, request: string, reply: string): string;
}

/** Everything that is not compared. */
export const MASKS: readonly Mask[] = [
  {
    name: 'generation of DIRECTORY_PART',
    reason: 'a count of all changes since the start, whose steps are the implementation’s',
    apply: (type, _request, reply) =>
      type === XS_DIRECTORY_PART ? reply.replace(/^\d+\0/, '<generation>\0') : reply,
  },
  {
    name: 'memory figures of CONTROL quota',
    reason: 'bytes of the daemon’s own data structures, and the highest figures seen since its start',
    apply: (type, request, reply) => {
      if (type !== XS_CONTROL || !request.startsWith('quota')) return reply;
      return reply.replaceAll(/^((?:memory|memory-max) *: *)\d+.*$/gm, (line, label: string) =>
        request === 'quota\0' ? line : `${label}<bytes>`,
      );
    },
  },
  {
    name: 'EINVAL or EAGAIN for a commit that failed',
    reason:
      'oxenstored looks for the culprit among what it remembers of the last 50 ms, and when that search itself fails it ' +
      'says EINVAL: which of the two comes depends on how fast the requests came',
    apply: (type, request, reply) =>
      type === XS_TRANSACTION_END && request === 'T\0' && reply === 'EINVAL\0' ? 'EAGAIN\0' : reply,
  },
];

/** The payload of a reply, or of an error, to a request of that type. */
export function maskReply(requestType: number, request: string, reply: string): string {
  let masked = reply;
  for (const mask of MASKS) masked = mask.apply(requestType, request, masked);
  return masked;
}
