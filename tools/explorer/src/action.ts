/** What a thread does next to something that it shares, before it is done: the one thing that others can see of a step. */
export type AccessKind =
  | 'load'
  | 'store'
  | 'atomicLoad'
  | 'atomicStore'
  | 'exchange'
  | 'compareExchange'
  | 'or'
  | 'and'
  | 'xor'
  | 'add'
  | 'sub';

/** One access to shared memory. A plain `store` goes through the store buffer; everything but the two loads drains it. */
export interface Access {
  readonly kind: AccessKind;
  /** Bytes from the beginning of the shared memory. */
  readonly offset: number;
  readonly width: 1 | 2 | 4;
  readonly isSigned: boolean;
  readonly value: number;
  /** What `compareExchange` stores. */
  readonly replacement: number;
}

export type Action =
  | Access
  | { readonly kind: 'fence' }
  /** Blocks until the word is not 0, and may take it: an eventfd that is waited for, and read. */
  | { readonly kind: 'sleep'; readonly offset: number; readonly takes: boolean }
  /** Goes on in every one of `count` ways. */
  | { readonly kind: 'choose'; readonly count: number }
  /** Blocks until a thread has ended or was killed, and all its stores are in memory. */
  | { readonly kind: 'awaitEnd'; readonly thread: string }
  | { readonly kind: 'fail'; readonly message: string }
  | { readonly kind: 'end' }
  | { readonly kind: 'dead' };

export function isAccess(action: Action): action is Access {
  return 'isSigned' in action;
}

/** Whether the access can change memory. A comparison that fails writes nothing, but nobody knows that beforehand. */
export function isWrite({ kind }: Access): boolean {
  return kind !== 'load' && kind !== 'atomicLoad';
}

/** What lies in `width` bytes at `offset` of a little-endian word. */
export function extract(word: number, offset: number, width: 1 | 2 | 4, isSigned: boolean): number {
  if (width === 4) return isSigned ? word | 0 : word >>> 0;
  const shift = (offset & 3) * 8;
  const bits = width * 8;
  const value = (word >>> shift) & ((1 << bits) - 1);
  return isSigned ? (value << (32 - bits)) >> (32 - bits) : value;
}

/** The word with `width` bytes at `offset` replaced. */
export function insert(word: number, offset: number, width: 1 | 2 | 4, value: number): number {
  if (width === 4) return value | 0;
  const shift = (offset & 3) * 8;
  const mask = ((1 << (width * 8)) - 1) << shift;
  return (word & ~mask) | ((value << shift) & mask);
}

/** What a read-modify-write leaves behind, given what it found. */
export function modify({ kind, value, replacement, ...at }: Access, found: number): number {
  switch (kind) {
    case 'or':
      return found | value;
    case 'and':
      return found & value;
    case 'xor':
      return found ^ value;
    case 'add':
      return found + value;
    case 'sub':
      return found - value;
    case 'compareExchange':
      return found === extract(insert(0, at.offset, at.width, value), at.offset, at.width, at.isSigned)
        ? replacement
        : found;
    default:
      return value;
  }
}
