import { existsSync } from 'node:fs';
import { type RealXenstoredKind, realXenstoredAvailability } from '@virtlab/xen-preload';
import { type XenstoreProfile, XENSTORE_PROFILES } from '@virtlab/xenstore';
import { realSubject } from './subjects/real-daemon.ts';
import type { Subject } from './subjects/subject.ts';

/** A real daemon with the profile of ours that imitates it. */
export interface Peer {
  readonly profile: XenstoreProfile;
  readonly subject: Subject;
  readonly version: string;
}

export type PeerName = 'c' | 'oxenstored' | 'c-head';

const PROFILES: Readonly<Record<PeerName, string>> = {
  c: 'c-4.17',
  oxenstored: 'oxenstored',
  'c-head': 'c-head',
};

export function profileOf(peer: PeerName): XenstoreProfile {
  return profileNamed(PROFILES[peer]);
}

/** Throws RangeError when there is none of that name. */
export function profileNamed(name: string): XenstoreProfile {
  const profile = XENSTORE_PROFILES.get(name);
  if (profile === undefined) {
    throw new RangeError(`Profile ${name} is not one of ${[...XENSTORE_PROFILES.keys()].join(', ')}`);
  }
  return profile;
}

/** The peer, or the reason for which it is not on this machine, in words. `program` is needed for `c-head`. */
export function findPeer(name: PeerName, program?: string): Peer | string {
  const kind: RealXenstoredKind = name === 'oxenstored' ? 'oxenstored' : 'c';
  if (program !== undefined && !existsSync(program)) return `there is no program ${program}`;
  if (name === 'c-head' && program === undefined)
    return 'needs --program, a xenstored built from Xen’s master branch';
  const availability = realXenstoredAvailability(kind);
  if (program === undefined && availability.status === 'missing') return availability.reason;
  const version = program ?? (availability.status === 'available' ? availability.version : '');
  return { profile: profileOf(name), subject: realSubject(kind, program), version };
}
