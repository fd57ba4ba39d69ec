import type { DaemonStatistics } from './daemon-statistics.ts';
import { XenstoreError } from './errors.ts';

/** The part of `XenstoreClient` that is needed. */
export interface ControlClient {
  controlStrings(command: string, ...parameters: readonly string[]): Promise<string[]>;
}

/** Statistics that are thrown away while they are read are read again so often. */
const ATTEMPT_COUNT = 10;
/** More than any daemon has to say; a hostile one must not fill this process. */
const TEXT_SIZE_MAX = 64 * 2 ** 20;

/**
 * What the daemon counts, over CONTROL `statistics`. Needs a privileged connection and a daemon of virtlab with that
 * command: others reject with EINVAL, oxenstored, which answers OK to everything, with EIO. One snapshot, however
 * many parts it comes in.
 */
export async function readStatistics(client: ControlClient): Promise<DaemonStatistics> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await readOnce(client);
    } catch (error) {
      const isGone = error instanceof XenstoreError && error.code === 'EAGAIN';
      if (!isGone || attempt >= ATTEMPT_COUNT) throw error;
    }
  }
}

async function readOnce(client: ControlClient): Promise<DaemonStatistics> {
  let [generation, part] = await client.controlStrings('statistics');
  let text = '';
  for (;;) {
    if (generation === undefined || part === undefined) throw notStatistics('it has no such command');
    if (part === '') break;
    text += part;
    if (text.length > TEXT_SIZE_MAX) throw notStatistics('there is no end of them');
    [, part] = await client.controlStrings('statistics', generation, String(text.length));
  }
  try {
    return JSON.parse(text) as DaemonStatistics;
  } catch {
    throw notStatistics('they are no JSON');
  }
}

function notStatistics(why: string): XenstoreError {
  return new XenstoreError('EIO', 'CONTROL', undefined, `the daemon’s answer is no statistics: ${why}`);
}
