import type { MapAccess } from '../../hypercalls.ts';

/** What a scripted domain can be told. */
export type Order =
  | { readonly order: 'call'; readonly op: string; readonly args: readonly unknown[] }
  | { readonly order: 'map'; readonly domain: number; readonly access: MapAccess }
  /** Writes a word of a mapped domain's RAM and rings it. Word 0 counts as work there. */
  | { readonly order: 'poke'; readonly domain: number; readonly index: number; readonly value: number }
  | { readonly order: 'look'; readonly index: number }
  /** Misbehaves on the hypercall socket; there is no answer to most of it. */
  | { readonly order: 'attack'; readonly attack: AttackName; readonly seed: number }
  | { readonly order: 'exit'; readonly code: number };

export const ATTACKS = [
  'noise',
  'garbage in a frame',
  'length of 4 GiB',
  'half a message',
  'descriptors',
  'not a call',
  'deep nesting',
  'never reads',
] as const;
export type AttackName = (typeof ATTACKS)[number];

export interface Sight {
  readonly value: number;
  /** Times its poll found work. */
  readonly rings: number;
  readonly gone: readonly number[];
}
