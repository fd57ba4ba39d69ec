import { join } from 'node:path';

/** Where libxenstore looks for the daemon: `XENSTORED_PATH`, else `$XENSTORED_RUNDIR/socket`, else the system's. */
export function defaultSocketPath(environment: NodeJS.ProcessEnv = process.env): string {
  const { XENSTORED_PATH: path, XENSTORED_RUNDIR: directory } = environment;
  if (path !== undefined && path !== '') return path;
  return join(directory === undefined || directory === '' ? '/var/run/xenstored' : directory, 'socket');
}
