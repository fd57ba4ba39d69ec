import {
  XS_STATE_ALIGN,
  XS_STATE_FLAG_BIG_ENDIAN,
  XS_STATE_GLOBAL,
  XS_STATE_IDENT,
  XS_STATE_NODE,
  XS_STATE_NODE_PERM,
  XS_STATE_NODE_PERM_IGNORE,
  XS_STATE_NO_FD,
  XS_STATE_PREAMBLE,
  XS_STATE_RECORD_HEADER,
  XS_STATE_TYPE_END,
  XS_STATE_TYPE_GLOBAL,
  XS_STATE_TYPE_NODE,
  XS_STATE_TYPE_WATCH_EXT,
  XS_STATE_VERSION_1,
  XS_STATE_VERSION_2,
} from '@virtlab/abi/xs-migration';
import { XENSTORE_ABS_PATH_MAX, XENSTORE_PAYLOAD_MAX } from '@virtlab/abi/xs-wire';
import { byteString, putByteString } from './byte-string.ts';
import { isNodePath, parentPath } from './path.ts';
import {
  DumpError,
  type ImageNode,
  type ImagePermission,
  SPECIAL_NAMES,
  type StoreImage,
} from './store-image.ts';

const LETTERS: readonly ImagePermission['access'][] = ['n', 'r', 'w', 'b'];
const DOMID_MAX = 0xffff;

/**
 * The image as a stream of version 1, little-endian: GLOBAL_DATA without descriptors, NODE_DATA for each node, END
 * (xenstore-migration.md). Permission entries for ids beyond 16 bits, which name no domain, have no place in it.
 */
export function encodeDump(image: StoreImage): Uint8Array<ArrayBuffer> {
  const sizes = image.map(nodeBodySize);
  const nodesSize = sizes.reduce((sum, size) => sum + recordSize(size), 0);
  const size = XS_STATE_PREAMBLE.size + recordSize(XS_STATE_GLOBAL.size) + nodesSize + recordSize(0);
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  putByteString(bytes, XS_STATE_PREAMBLE.offset.ident, XS_STATE_IDENT);
  view.setUint32(XS_STATE_PREAMBLE.offset.version, XS_STATE_VERSION_1, false);
  let at = putRecord(view, XS_STATE_PREAMBLE.size, XS_STATE_TYPE_GLOBAL, XS_STATE_GLOBAL.size);
  XS_STATE_GLOBAL.write(view, at, { socket_fd: XS_STATE_NO_FD, evtchn_fd: XS_STATE_NO_FD });
  at += XS_STATE_GLOBAL.size;
  for (const [index, node] of image.entries()) {
    const body = putRecord(view, at, XS_STATE_TYPE_NODE, sizes[index]!);
    putNode(bytes, view, body, node);
    at += recordSize(sizes[index]!);
  }
  putRecord(view, at, XS_STATE_TYPE_END, 0);
  return bytes;
}

/**
 * Reads a stream of version 1 or 2 in either byte order. Takes the committed nodes; what belongs to connections
 * (they, their watches, transactions and pending nodes), quotas and descriptors are passed over. Checks everything
 * it takes, and that the stream is whole. Throws `DumpError`, naming record and offset.
 */
export function decodeDump(bytes: Uint8Array): StoreImage {
  const reader = new DumpReader(bytes);
  const image: ImageNode[] = [];
  const known = new Set<string>();
  for (let record = reader.next(); record.type !== XS_STATE_TYPE_END; record = reader.next()) {
    if (record.type !== XS_STATE_TYPE_NODE) continue;
    const node = reader.node(record);
    if (node === undefined) continue;
    if (known.has(node.path)) reader.fail(record, `${node.path} a second time`);
    if (node.path.startsWith('/') && node.path !== '/' && !known.has(parentPath(node.path)))
      reader.fail(record, `${node.path} comes before its parent`);
    known.add(node.path);
    image.push(node);
  }
  return image;
}

interface DumpRecord {
  readonly type: number;
  /** 1, 2, 3 … */
  readonly number: number;
  readonly offset: number;
  readonly body: number;
  readonly size: number;
}

class DumpReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #isLittle: boolean;
  readonly #typeMax: number;
  #at: number = XS_STATE_PREAMBLE.size;
  #number = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const { ident, version: versionAt, flags: flagsAt } = XS_STATE_PREAMBLE.offset;
    const isStream =
      bytes.length >= XS_STATE_PREAMBLE.size &&
      byteString(bytes, ident, ident + XS_STATE_IDENT.length) === XS_STATE_IDENT;
    if (!isStream) throw new DumpError('The file is no xenstore dump: its first 8 bytes are not “xenstore”');
    const version = this.#view.getUint32(versionAt, false);
    const flags = this.#view.getUint32(flagsAt, false);
    if (version !== XS_STATE_VERSION_1 && version !== XS_STATE_VERSION_2)
      throw new DumpError(`The dump has version ${version} (offset ${versionAt}); 1 and 2 can be read`);
    if ((flags & ~XS_STATE_FLAG_BIG_ENDIAN) !== 0)
      throw new DumpError(`The dump has unknown flags 0x${flags.toString(16)} (offset ${flagsAt})`);
    this.#isLittle = flags === 0;
    this.#typeMax = version === XS_STATE_VERSION_1 ? XS_STATE_TYPE_WATCH_EXT - 1 : XS_STATE_TYPE_WATCH_EXT;
  }

  next(): DumpRecord {
    this.#number += 1;
    const offset = this.#at;
    const body = offset + XS_STATE_RECORD_HEADER.size;
    const cut = { type: 0, number: this.#number, offset, body, size: 0 };
    if (body > this.#bytes.length) this.fail(cut, 'the dump ends without an END record');
    const type = this.#u32(offset + XS_STATE_RECORD_HEADER.offset.type);
    const size = this.#u32(offset + XS_STATE_RECORD_HEADER.offset.length);
    const record = { ...cut, type, size };
    if (type > this.#typeMax) this.fail(record, `unknown type ${type}`);
    this.#at = offset + recordSize(size);
    if (this.#at > this.#bytes.length)
      this.fail(record, `${size} bytes long, but only ${this.#bytes.length - body} are left`);
    if (type === XS_STATE_TYPE_END && (size !== 0 || this.#at !== this.#bytes.length))
      this.fail(record, 'something follows the END record');
    return record;
  }

  /** The node, unless it is one that a transaction has changed. */
  node(record: DumpRecord): ImageNode | undefined {
    const { body, size } = record;
    if (size < XS_STATE_NODE.size) this.fail(record, `${size} bytes are too few for a node`);
    const { offset } = XS_STATE_NODE;
    if (this.#u32(body + offset.conn_id) !== 0) return undefined;
    const pathSize = this.#u16(body + offset.path_len);
    const valueSize = this.#u16(body + offset.data_len);
    const permissionCount = this.#u16(body + offset.perm_n);
    const pathAt = body + XS_STATE_NODE.size + permissionCount * XS_STATE_NODE_PERM.size;
    const valueAt = pathAt + pathSize;
    if (valueAt + valueSize > body + size)
      this.fail(record, 'path, value and permissions do not fit into it');
    if (permissionCount === 0) this.fail(record, 'a node without permissions');
    if (valueSize > XENSTORE_PAYLOAD_MAX) this.fail(record, `a value of ${valueSize} bytes`);
    const path = this.#path(record, pathAt, pathSize);
    const permissions = Array.from({ length: permissionCount }, (_, index) =>
      this.#permission(record, body + XS_STATE_NODE.size + index * XS_STATE_NODE_PERM.size),
    );
    return { path, value: byteString(this.#bytes, valueAt, valueAt + valueSize), permissions };
  }

  fail(record: DumpRecord, what: string): never {
    throw new DumpError(`Record ${record.number} of the dump (offset ${record.offset}): ${what}`);
  }

  #path(record: DumpRecord, at: number, size: number): string {
    const text = byteString(this.#bytes, at, at + size);
    const path = text.slice(0, -1);
    const isWhole = text.endsWith('\0') && !path.includes('\0');
    const isPath = SPECIAL_NAMES.includes(path) || isNodePath(path, XENSTORE_ABS_PATH_MAX);
    if (!isWhole || !isPath) this.fail(record, `no path: ${JSON.stringify(text.slice(0, 100))}`);
    return path;
  }

  #permission(record: DumpRecord, at: number): ImagePermission {
    const { offset } = XS_STATE_NODE_PERM;
    const letter = String.fromCharCode(this.#bytes[at + offset.access]!);
    const access = LETTERS.find((known) => known === letter);
    if (access === undefined) this.fail(record, `no permission: ${JSON.stringify(letter)}`);
    const flags = this.#bytes[at + offset.flags]!;
    return {
      access,
      isStale: (flags & XS_STATE_NODE_PERM_IGNORE) !== 0,
      domid: this.#u16(at + offset.domid),
    };
  }

  #u16(at: number): number {
    return this.#view.getUint16(at, this.#isLittle);
  }

  #u32(at: number): number {
    return this.#view.getUint32(at, this.#isLittle);
  }
}

function recordSize(bodySize: number): number {
  return XS_STATE_RECORD_HEADER.size + Math.ceil(bodySize / XS_STATE_ALIGN) * XS_STATE_ALIGN;
}

function representable(permissions: readonly ImagePermission[]): readonly ImagePermission[] {
  return permissions.filter(({ domid }) => domid <= DOMID_MAX);
}

function nodeBodySize({ path, value, permissions }: ImageNode): number {
  const permissionsSize = representable(permissions).length * XS_STATE_NODE_PERM.size;
  return XS_STATE_NODE.size + permissionsSize + path.length + 1 + value.length;
}

/** Returns where the body starts. */
function putRecord(view: DataView, at: number, type: number, size: number): number {
  // The C daemon counts the padding as part of the body; it is zero either way.
  const length = recordSize(size) - XS_STATE_RECORD_HEADER.size;
  XS_STATE_RECORD_HEADER.write(view, at, { type, length });
  return at + XS_STATE_RECORD_HEADER.size;
}

function putNode(bytes: Uint8Array, view: DataView, body: number, node: ImageNode): void {
  const permissions = representable(node.permissions);
  XS_STATE_NODE.write(view, body, {
    conn_id: 0,
    ta_id: 0,
    path_len: node.path.length + 1,
    data_len: node.value.length,
    ta_access: 0,
    perm_n: permissions.length,
  });
  let at = body + XS_STATE_NODE.size;
  for (const { access, domid, isStale } of permissions) {
    const flags = isStale ? XS_STATE_NODE_PERM_IGNORE : 0;
    XS_STATE_NODE_PERM.write(view, at, { access: access.charCodeAt(0), flags, domid });
    at += XS_STATE_NODE_PERM.size;
  }
  putByteString(bytes, at, node.path);
  putByteString(bytes, at + node.path.length + 1, node.value);
}
