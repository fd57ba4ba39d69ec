import type { ByteString } from './byte-string.ts';
import type { XenstoreErrorCode } from './errors.ts';
import { formatOxPermission } from './ox-permissions.ts';
import type { OxAnswer, OxPerform, OxView } from './ox-view.ts';
import type { NodePermissions, PermissionSubject } from './permissions.ts';
import type { SnapshotNode, SnapshotPath } from './snapshot-node.ts';
import { joinStrings } from './wire.ts';

/* The requests on nodes, as process.ml does them (`do_read` and its like). */

const ACK_ANSWER: OxAnswer = { kind: 'ack' };

export function oxError(code: XenstoreErrorCode): OxAnswer {
  return { kind: 'error', code };
}

function ackOr(failure: XenstoreErrorCode | undefined): OxAnswer {
  return failure === undefined ? ACK_ANSWER : oxError(failure);
}

function reading(path: SnapshotPath, format: (node: SnapshotNode) => ByteString): OxPerform {
  return (view, subject) => {
    const node = view.read(subject, path);
    return typeof node === 'string' ? oxError(node) : { kind: 'reply', payload: format(node) };
  };
}

export function oxRead(path: SnapshotPath): OxPerform {
  return reading(path, ({ value }) => value);
}

/** Names in the order of their bytes. */
export function oxDirectory(path: SnapshotPath): OxPerform {
  return reading(path, ({ children }) => joinStrings([...children.keys()]));
}

export function oxGetPermissions(path: SnapshotPath): OxPerform {
  return reading(path, ({ permissions }) => joinStrings(permissions.map(formatOxPermission)));
}

export function oxWrite(path: SnapshotPath, value: ByteString): OxPerform {
  return (view, subject) => {
    const failure = createParents(view, subject, path);
    return ackOr(failure ?? view.write(subject, path, value));
  };
}

export function oxMkdir(path: SnapshotPath): OxPerform {
  return (view, subject) => {
    const failure = createParents(view, subject, path) ?? view.mkdir(subject, path, true);
    return ackOr(failure === 'EEXIST' ? undefined : failure);
  };
}

/** A missing node is as good as a removed one, if its parent is there. */
export function oxRm(path: SnapshotPath): OxPerform {
  return (view, subject) => {
    const failure = view.rm(subject, path);
    const isLeafMissing = failure === 'ENOENT' && view.has(path.slice(0, -1));
    return ackOr(isLeafMissing ? undefined : failure);
  };
}

export function oxSetPermissions(path: SnapshotPath, permissions: NodePermissions): OxPerform {
  return (view, subject) => ackOr(view.setPermissions(subject, path, permissions));
}

/**
 * Makes what is missing above `path`; nobody hears of it. When it fails half-way, or what follows fails, the nodes that
 * were made stay (`create_implicit_path`).
 */
function createParents(
  view: OxView,
  subject: PermissionSubject,
  path: SnapshotPath,
): XenstoreErrorCode | undefined {
  if (path.length < 2 || view.has(path.slice(0, -1))) return undefined;
  let isMissing = false;
  for (let depth = 1; depth < path.length; depth++) {
    const above = path.slice(0, depth);
    isMissing ||= !view.has(above);
    const failure = isMissing ? view.mkdir(subject, above, false) : undefined;
    if (failure !== undefined) return failure;
  }
  return undefined;
}
