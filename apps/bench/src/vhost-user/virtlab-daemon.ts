import { fileURLToPath } from 'node:url';
import { ForeignProcess } from './foreign-process.ts';

const COMMAND = fileURLToPath(new URL('../../../cli/bin/virtlab.js', import.meta.url));
const LISTENING = '"event":"listening"';

/** `virtlab vhost-user-blk` or `vhost-user-net`, as a user starts it. Resolves when it listens. */
export async function startVirtlab(
  name: 'vhost-user-blk' | 'vhost-user-net',
  ...args: readonly string[]
): Promise<ForeignProcess> {
  const daemon = new ForeignProcess(process.execPath, [COMMAND, name, '--json', ...args]);
  await daemon.until(() => daemon.messages.includes(LISTENING));
  return daemon;
}
