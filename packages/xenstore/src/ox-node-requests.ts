import type { OxOutcome } from './ox-engine.ts';
import {
  oxDirectory,
  oxGetPermissions,
  oxMkdir,
  oxRead,
  oxRm,
  oxSetPermissions,
  oxWrite,
} from './ox-operations.ts';
import { parseOxPermissions } from './ox-permissions.ts';
import { type OxHandler, type OxRequest, oxFailure, oxRequestPath, oxSplit } from './ox-request.ts';
import type { OxPerform } from './ox-view.ts';
import type { SnapshotPath } from './snapshot-node.ts';

function onOnePath(operation: (path: SnapshotPath) => OxPerform, isChange: boolean): OxHandler {
  return (request) => {
    const [text, rest] = oxSplit(request.text, 2);
    const path = rest === '' ? oxRequestPath(request, text!) : undefined;
    if (path === undefined) return oxFailure('EINVAL');
    return request.engine.perform(request.request, operation(path), isChange);
  };
}

/** XS_READ. */
export const oxReadRequest: OxHandler = onOnePath(oxRead, false);

/** XS_DIRECTORY. */
export const oxDirectoryRequest: OxHandler = onOnePath(oxDirectory, false);

/** XS_GET_PERMS. */
export const oxGetPermissionsRequest: OxHandler = onOnePath(oxGetPermissions, false);

/** XS_MKDIR. */
export const oxMkdirRequest: OxHandler = onOnePath(oxMkdir, true);

/** XS_RM. */
export const oxRmRequest: OxHandler = onOnePath(oxRm, true);

/** XS_WRITE. */
export function oxWriteRequest(request: OxRequest): OxOutcome {
  const [text, value] = oxSplit(request.text, 2);
  const path = value === undefined ? undefined : oxRequestPath(request, text!);
  if (path === undefined) return oxFailure('EINVAL');
  return request.engine.perform(request.request, oxWrite(path, value!), true);
}

/** XS_SET_PERMS. What stands behind the last NUL is dropped, also where it is an entry. */
export function oxSetPermissionsRequest(request: OxRequest): OxOutcome {
  const [text, entries] = oxSplit(request.text, 2);
  const permissions =
    entries === undefined ? undefined : parseOxPermissions(entries.split('\0').slice(0, -1));
  const path = permissions === undefined ? undefined : oxRequestPath(request, text!);
  if (path === undefined) return oxFailure('EINVAL');
  return request.engine.perform(request.request, oxSetPermissions(path, permissions!), true);
}
