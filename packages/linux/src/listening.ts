import { existsSync } from 'node:fs';
import { connect } from 'node:net';

/**
 * Whether somebody takes connections at the path of a Unix stream socket: its name may be there before anybody listens, and
 * after. The attempt counts as a client that leaves at once.
 */
export async function isListening(path: string): Promise<boolean> {
  if (!existsSync(path)) return false;
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const probe = connect(path, () => resolve(true)).once('error', () => resolve(false));
  const found = await promise;
  probe.destroy();
  return found;
}
