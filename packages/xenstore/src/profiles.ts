import type { XenstoreProfile } from './profile.ts';
import { PROFILE_C_4_17 } from './profile-c-4-17.ts';
import { PROFILE_C_HEAD } from './profile-c-head.ts';
import { PROFILE_OXENSTORED } from './profile-oxenstored.ts';

/** Every implementation that can be imitated, by name. */
export const XENSTORE_PROFILES: ReadonlyMap<string, XenstoreProfile> = new Map(
  [PROFILE_C_4_17, PROFILE_C_HEAD, PROFILE_OXENSTORED].map((profile) => [profile.name, profile]),
);
