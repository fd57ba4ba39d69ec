import { chmodSync, lstatSync, mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { defaultSocketPath } from './socket-path.ts';

/** Only the owner may look into it: whoever reaches the socket is privileged. */
const DIRECTORY_MODE = 0o700;

/** Whether the environment names the socket, as libxenstore's clients read it. */
function isNamed(environment: NodeJS.ProcessEnv): boolean {
  const { XENSTORED_PATH: path, XENSTORED_RUNDIR: directory } = environment;
  return (path !== undefined && path !== '') || (directory !== undefined && directory !== '');
}

/**
 * Where a daemon of this user listens unless told otherwise: `XENSTORED_PATH`, else `$XENSTORED_RUNDIR/socket`, else
 * `$XDG_RUNTIME_DIR/xenstored/socket`, else a directory in the system's temporary one that carries the user's id.
 * Only names it; `preparePrivateDirectory` makes the last two.
 */
export function userSocketPath(environment: NodeJS.ProcessEnv = process.env): string {
  if (isNamed(environment)) return defaultSocketPath(environment);
  const { XDG_RUNTIME_DIR: runtime } = environment;
  const directory =
    runtime !== undefined && runtime !== ''
      ? join(runtime, 'xenstored')
      : join(tmpdir(), `xenstored-${process.getuid?.() ?? 'user'}`);
  return join(directory, 'socket');
}

/**
 * Where a client finds a daemon: what the environment names, else this user's daemon if its socket is there, else the
 * system's.
 */
export function clientSocketPath(environment: NodeJS.ProcessEnv = process.env): string {
  if (isNamed(environment)) return defaultSocketPath(environment);
  const own = userSocketPath(environment);
  return isOwnSocket(own) ? own : defaultSocketPath(environment);
}

/**
 * Makes the directory of `userSocketPath` if it is this user's to make. Throws, with `code` EACCES, if somebody else
 * owns it, if it is a link, or if it is no directory: a stranger could then exchange the socket. A directory that the
 * environment names is the caller's business.
 */
export function preparePrivateDirectory(
  socketPath: string,
  environment: NodeJS.ProcessEnv = process.env,
): void {
  if (isNamed(environment) || socketPath !== userSocketPath(environment)) return;
  const directory = dirname(socketPath);
  mkdirSync(directory, { recursive: true, mode: DIRECTORY_MODE });
  const found = lstatSync(directory);
  if (!found.isDirectory() || !isMine(found.uid)) {
    throw Object.assign(new Error(`${directory} is not a directory of this user`), {
      code: 'EACCES',
      path: directory,
    });
  }
  if ((found.mode & 0o777) !== DIRECTORY_MODE) chmodSync(directory, DIRECTORY_MODE);
}

/** A client must not talk to a socket that another user left at a well-known place in the temporary directory. */
function isOwnSocket(path: string): boolean {
  const directory = lstatSync(dirname(path), { throwIfNoEntry: false });
  if (directory === undefined || !directory.isDirectory() || !isMine(directory.uid)) return false;
  return lstatSync(path, { throwIfNoEntry: false })?.isSocket() === true;
}

function isMine(uid: number): boolean {
  return process.getuid === undefined || uid === process.getuid();
}
