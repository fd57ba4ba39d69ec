/**
 * Declares a C structure once: its offsets, its field widths and the TypeScript type of its value all derive from one
 * table. Offsets follow the C rules (natural alignment, trailing padding), and the size that the source document
 * states is checked when the module loads, so that a slip stops the program instead of corrupting a ring.
 *
 * All multi-byte fields are little-endian: VIRTIO says so for every field ("le16", §1.4), and Xen and vhost-user use
 * the byte order of the machine, which here is x86 or arm64 in little-endian mode.
 */

/** One machine word of a structure. `sle16` and `s8` are two's complement; `le64` has `bigint` values. */
export type ScalarType = 'u8' | 's8' | 'le16' | 'sle16' | 'le32' | 'le64';

/** A word, or `[word, count]` for an array: `['u8', 6]` is six bytes, `['le32', 16]` sixteen 32-bit words. */
export type FieldType = ScalarType | readonly [ScalarType, number];

/** The fields of a structure, in the order in which they stand in memory. */
export interface FieldTypes {
  readonly [field: string]: FieldType;
}

type ScalarValue<T> = T extends 'le64' ? bigint : number;

type FieldValue<T> = T extends readonly ['u8', number]
  ? Uint8Array
  : T extends readonly [infer Element, number]
    ? readonly ScalarValue<Element>[]
    : ScalarValue<T>;

/** The value of a structure: numbers, `bigint` for 64-bit words, `Uint8Array` for bytes, arrays for other arrays. */
export type LayoutValue<F extends FieldTypes> = { readonly [K in keyof F]: FieldValue<F[K]> };

/** The value type of a declared layout: `RecordOf<typeof VRING_DESC>`. */
export type RecordOf<L> = L extends Layout<infer F> ? LayoutValue<F> : never;

/**
 * A structure of a source document. `offset` and `width` are in bytes and serve the data plane (typed arrays, no
 * calls); `read` and `write` serve the control plane.
 */
export interface Layout<F extends FieldTypes> {
  /** Size of the structure, padding included. */
  readonly size: number;
  /** Alignment of the structure: that of its widest field. */
  readonly align: number;
  readonly fields: F;
  /** Distance of each field from the start of the structure. */
  readonly offset: { readonly [K in keyof F]: number };
  /** Size of each field; of the whole array if the field is one. */
  readonly width: { readonly [K in keyof F]: number };
  /**
   * Copies the structure at `at` into a fresh object; nothing in the result refers to `view`. Each byte is read once.
   * @throws RangeError if the structure does not lie inside `view`.
   */
  read(view: DataView, at: number): LayoutValue<F>;
  /**
   * Writes the whole structure at `at`; padding becomes zero, so that no old memory leaks to a peer. Not atomic:
   * words that a peer polls are stored through typed arrays instead. Nothing is written if it throws.
   * @throws RangeError if a value does not fit its field or the structure does not lie inside `view`.
   */
  write(view: DataView, at: number, value: LayoutValue<F>): void;
}

interface Scalar {
  readonly width: number;
  readonly min: number | bigint;
  readonly max: number | bigint;
  readonly get: (view: DataView, at: number) => number | bigint;
  readonly set: (view: DataView, at: number, value: number | bigint) => void;
}

const scalars: Readonly<Record<ScalarType, Scalar>> = {
  u8: {
    width: 1,
    min: 0,
    max: 0xff,
    get: (view, at) => view.getUint8(at),
    set: (view, at, value) => view.setUint8(at, Number(value)),
  },
  s8: {
    width: 1,
    min: -0x80,
    max: 0x7f,
    get: (view, at) => view.getInt8(at),
    set: (view, at, value) => view.setInt8(at, Number(value)),
  },
  le16: {
    width: 2,
    min: 0,
    max: 0xffff,
    get: (view, at) => view.getUint16(at, true),
    set: (view, at, value) => view.setUint16(at, Number(value), true),
  },
  sle16: {
    width: 2,
    min: -0x8000,
    max: 0x7fff,
    get: (view, at) => view.getInt16(at, true),
    set: (view, at, value) => view.setInt16(at, Number(value), true),
  },
  le32: {
    width: 4,
    min: 0,
    max: 0xffff_ffff,
    get: (view, at) => view.getUint32(at, true),
    set: (view, at, value) => view.setUint32(at, Number(value), true),
  },
  le64: {
    width: 8,
    min: 0n,
    max: 0xffff_ffff_ffff_ffffn,
    get: (view, at) => view.getBigUint64(at, true),
    set: (view, at, value) => view.setBigUint64(at, BigInt(value), true),
  },
};

type Word = number | bigint;

interface PlacedField {
  readonly name: string;
  readonly scalar: Scalar;
  readonly type: ScalarType;
  /** Items of an array field; undefined for a single word. */
  readonly count: number | undefined;
  readonly offset: number;
  readonly width: number;
}

const alignUp = (at: number, align: number): number => Math.ceil(at / align) * align;

/**
 * Declares a structure by the C rules: each field at the next multiple of its width, the size rounded up to the
 * widest field.
 *
 * @param size the size in bytes that the source document or its header gives, padding included
 * @param fields name to type, in memory order
 * @throws Error if `size` is not what the fields add up to: a mistake in the declaration
 */
export function layout<const F extends FieldTypes>(size: number, fields: F): Layout<F> {
  const placed = place(fields);
  const align = placed.reduce((widest, field) => Math.max(widest, field.scalar.width), 1);
  const last = placed.at(-1);
  const computed = last === undefined ? 0 : alignUp(last.offset + last.width, align);
  if (computed !== size) {
    throw new Error(`layout { ${Object.keys(fields).join(', ')} } is ${computed} bytes, declared as ${size}`);
  }
  return Object.freeze({
    size,
    align,
    fields,
    offset: Object.freeze(Object.fromEntries(placed.map((field) => [field.name, field.offset]))),
    width: Object.freeze(Object.fromEntries(placed.map((field) => [field.name, field.width]))),
    read: (view: DataView, at: number) => {
      requireRoom(view, at, size);
      return Object.fromEntries(placed.map((field) => [field.name, readField(view, at, field)]));
    },
    write: (view: DataView, at: number, value: LayoutValue<F>) => {
      requireRoom(view, at, size);
      for (const field of placed) requireValue(field, value[field.name]);
      new Uint8Array(view.buffer, view.byteOffset + at, size).fill(0);
      for (const field of placed) writeField(view, at, field, value[field.name]);
    },
  }) as Layout<F>;
}

/**
 * A structure whose first member is another one, flattened: `extend(20, VIRTIO_PCI_CAP, { notify_off_multiplier: … })`.
 * The base's trailing padding must be declared by the base as a field.
 *
 * @throws Error as `layout` does, and if a field of the base is declared again
 */
export function extend<B extends FieldTypes, const F extends FieldTypes>(
  size: number,
  base: Layout<B>,
  fields: F,
): Layout<B & F> {
  const twice = Object.keys(fields).find((name) => name in base.fields);
  if (twice !== undefined) throw new Error(`layout field ${twice} is already in the base`);
  return layout(size, { ...base.fields, ...fields });
}

function place(fields: FieldTypes): PlacedField[] {
  let end = 0;
  return Object.entries(fields).map(([name, declared]) => {
    const [type, count] = typeof declared === 'string' ? [declared, undefined] : declared;
    const scalar = scalars[type];
    const offset = alignUp(end, scalar.width);
    const width = scalar.width * (count ?? 1);
    end = offset + width;
    return { name, scalar, type, count, offset, width };
  });
}

function requireRoom(view: DataView, at: number, size: number): void {
  if (!Number.isSafeInteger(at) || at < 0 || at + size > view.byteLength) {
    throw new RangeError(`structure of ${size} bytes at ${at} is outside a view of ${view.byteLength} bytes`);
  }
}

function readField(view: DataView, at: number, field: PlacedField): Word | Uint8Array | Word[] {
  const start = at + field.offset;
  if (field.count === undefined) return field.scalar.get(view, start);
  if (field.type === 'u8') return new Uint8Array(view.buffer, view.byteOffset + start, field.count).slice();
  return Array.from({ length: field.count }, (_, i) =>
    field.scalar.get(view, start + i * field.scalar.width),
  );
}

function writeField(view: DataView, at: number, field: PlacedField, value: unknown): void {
  const words = field.count === undefined ? [value as Word] : (value as ArrayLike<Word>);
  for (let i = 0; i < words.length; i++) {
    field.scalar.set(view, at + field.offset + i * field.scalar.width, words[i]!);
  }
}

function requireValue(field: PlacedField, value: unknown): void {
  if (field.count === undefined) {
    requireWord(field, value as Word);
    return;
  }
  const words = value as ArrayLike<Word>;
  if (words.length !== field.count) {
    throw new RangeError(`${field.name} has ${field.count} items, got ${words.length}`);
  }
  for (let i = 0; i < words.length; i++) requireWord(field, words[i]!);
}

function requireWord({ name, type, scalar }: PlacedField, value: Word): void {
  const fits =
    typeof value === typeof scalar.min &&
    (typeof value === 'bigint' || Number.isInteger(value)) &&
    value >= scalar.min &&
    value <= scalar.max;
  if (!fits) throw new RangeError(`${name}: ${String(value)} is not a ${type}`);
}
