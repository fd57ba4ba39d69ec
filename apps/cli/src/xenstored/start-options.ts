import { accessSync, constants, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { XENSTORE_PROFILES, parseFault } from '@virtlab/xenstore';
import type { XenstoredOptions } from '@virtlab/xenstore/node';
import { parseQuotas } from './quotas.ts';
import { StartError } from '../start-error.ts';

export interface XenstoredFlags {
  readonly socket?: string;
  readonly profile: string;
  readonly quota?: readonly string[];
  readonly accessLog?: string;
  readonly trace: boolean;
  readonly dump?: string;
  readonly restore?: string;
  readonly forceEagain?: number;
  readonly fault?: readonly string[];
  readonly seed?: number;
  readonly json: boolean;
}

/** `sun_path` with its NUL, unix(7). */
const SOCKET_PATH_SIZE_MAX = 107;

/** What the daemon is started with. Throws `StartError` for what cannot be worked with, before anything is made. */
export function startOptions(flags: XenstoredFlags, trace: (line: string) => void): XenstoredOptions {
  const profile = XENSTORE_PROFILES.get(flags.profile)!; // one of the option's choices
  const { socket, accessLog, dump, restore, seed } = flags;
  if (socket !== undefined) checkSocket(socket);
  if (accessLog !== undefined) checkFolder('--access-log', accessLog);
  if (dump !== undefined) checkFolder('--dump', dump);
  if (restore !== undefined) checkReadable(restore);
  return {
    profile,
    quotas: parseQuotas(flags.quota ?? [], profile),
    faults: faultsOf(flags),
    ...(socket === undefined ? {} : { socketPath: resolve(socket) }),
    ...(accessLog === undefined ? {} : { accessLog }),
    ...(dump === undefined ? {} : { dump }),
    ...(restore === undefined ? {} : { restore }),
    ...(seed === undefined ? {} : { seed }),
    ...(flags.trace ? { trace } : {}),
  };
}

function faultsOf({ fault = [], forceEagain }: XenstoredFlags): XenstoredOptions['faults'] & {} {
  const plans = fault.map((text) => {
    try {
      return parseFault(text);
    } catch (error) {
      throw new StartError(
        'usage',
        `--fault ${text}: ${error instanceof Error ? error.message : String(error)}`,
      );
    }
  });
  const fullQuotas = plans.flatMap((plan) => plan.fullQuotas ?? []);
  return {
    ...Object.assign({}, ...plans),
    ...(fullQuotas.length === 0 ? {} : { fullQuotas }),
    ...(forceEagain === undefined ? {} : { eagain: forceEagain }),
  };
}

function checkSocket(path: string): void {
  const size = Buffer.byteLength(resolve(path));
  if (size > SOCKET_PATH_SIZE_MAX) {
    throw new StartError(
      'usage',
      `--socket ${path}: ${size} bytes are more than a socket's path can have (${SOCKET_PATH_SIZE_MAX})`,
    );
  }
  checkFolder('--socket', path);
}

function checkFolder(option: string, path: string): void {
  const folder = dirname(resolve(path));
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true) {
    throw new StartError('usage', `${option} ${path}: there is no directory ${folder}`);
  }
}

function checkReadable(path: string): void {
  try {
    accessSync(path, constants.R_OK);
  } catch (error) {
    throw new StartError('usage', `--restore ${path}: ${(error as NodeJS.ErrnoException).code}`);
  }
}
