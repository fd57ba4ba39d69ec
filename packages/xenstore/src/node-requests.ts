import { XENSTORE_PAYLOAD_MAX } from '@virtlab/abi/xs-wire';
import { byteString, knownString } from './byte-string.ts';
import { atoi } from './c-number.ts';
import type { XenstoreErrorCode } from './errors.ts';
import { canonicalPath } from './path.ts';
import { XS_PERM_READ, formatPermission } from './permissions.ts';
import { ACK, type Outcome, type Request } from './request.ts';
import type { FoundNode } from './store.ts';
import { joinStrings, nulStrings, singleString } from './wire.ts';

/** XS_READ. */
export function read(request: Request): Outcome {
  const node = readable(request);
  if (typeof node === 'string') return node;
  request.reply(node.value);
  return undefined;
}

/** XS_DIRECTORY. */
export function directory(request: Request): Outcome {
  const node = readable(request);
  if (typeof node === 'string') return node;
  request.reply(node.children.encoded());
  return undefined;
}

/** XS_GET_PERMS. */
export function getPermissions(request: Request): Outcome {
  const node = readable(request, true);
  if (typeof node === 'string') return node;
  request.reply(joinStrings(node.permissions.map(formatPermission)));
  return undefined;
}

/** XS_DIRECTORY_PART: as many names behind the offset as fit, and an empty one after the last (xenstore.txt). */
export function directoryPart(request: Request): Outcome {
  const [path, offsetText, ...excess] = nulStrings(request.payload);
  if (path === undefined || offsetText === undefined || excess.length > 0) return 'EINVAL';
  const name = canonical(request, path);
  if (isBareSpecial(request, name)) return 'EINVAL';
  const node = request.store.find(request, name, XS_PERM_READ);
  if (typeof node === 'string') return node;
  const generation = `${node.generation}\0`;
  const names = node.children.encoded();
  const start = atoi(offsetText) >>> 0;
  if (start >= names.length) {
    request.reply(`${generation}\0`);
    return undefined;
  }
  const end = partEnd(names, start, XENSTORE_PAYLOAD_MAX - generation.length - 1);
  request.reply(`${generation}${names.slice(start, end)}${end === names.length ? '\0' : ''}`);
  return undefined;
}

/** XS_WRITE. The value is what follows the path's NUL, NULs and all. */
export function write(request: Request): Outcome {
  const { payload, store } = request;
  const nul = payload.indexOf(0);
  if (nul < 0) return 'EINVAL';
  const path = canonical(request, knownString(payload, 0, nul));
  const failure = store.write(request, path, byteString(payload, nul + 1));
  if (failure === undefined) request.reply(ACK);
  return failure;
}

/** XS_MKDIR. */
export function mkdir(request: Request): Outcome {
  const path = onePath(request);
  if (path === undefined) return badString(request, 'changing');
  const failure = request.store.mkdir(request, path);
  if (failure === undefined) request.reply(ACK);
  return failure;
}

/** XS_RM. */
export function rm(request: Request): Outcome {
  const path = onePath(request);
  if (path === undefined) return badString(request, 'changing');
  const failure = request.store.rm(request, path);
  if (failure === undefined) request.reply(ACK);
  return failure;
}

/** XS_SET_PERMS. */
export function setPermissions(request: Request): Outcome {
  const [path, ...entries] = nulStrings(request.payload);
  if (path === undefined || entries.length === 0) return 'EINVAL';
  const failure = request.store.setPermissions(request, canonical(request, path), entries);
  if (failure === undefined) request.reply(ACK);
  return failure;
}

function readable(request: Request, takesSpecial: boolean = false): FoundNode | XenstoreErrorCode {
  const path = onePath(request);
  if (path === undefined) return badString(request, 'reading');
  if (!takesSpecial && isBareSpecial(request, path)) return 'EINVAL';
  return request.store.find(request, path, XS_PERM_READ);
}

/** Special names that are nodes have permissions, but no value or children that could be asked for. */
function isBareSpecial(request: Request, path: string): boolean {
  const { engine, specialNames } = request.store.profile;
  return engine === 'c' && specialNames === 'nodes' && path.startsWith('@');
}

function onePath(request: Request): string | undefined {
  const path = singleString(request.payload);
  return path === undefined ? undefined : canonical(request, path);
}

function canonical(request: Request, path: string): string {
  return canonicalPath(request.connection.domain.home, path);
}

function badString(request: Request, kind: 'reading' | 'changing'): XenstoreErrorCode {
  const answers = request.store.profile.badString;
  return (request.payload.length === 0 ? answers.emptyPayload : undefined) ?? answers[kind];
}

/** End of the last name that fits whole into `room` bytes from `start`. */
function partEnd(names: string, start: number, room: number): number {
  let end = start;
  while (end < names.length) {
    const nul = names.indexOf('\0', end);
    if (nul - start >= room) break;
    end = nul + 1;
  }
  return end;
}
