import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { NetworkNamespace } from '@virtlab/linux/testing';
import type { Station } from './stations.ts';

const MAIN = fileURLToPath(new URL('../../../../cli/src/main.ts', import.meta.url));

/** The kernel of this machine in a network namespace, with an address there. */
export function namespaceStation(namespace: NetworkNamespace, address: string): Station {
  return { address, output: async (script) => (await namespace.check('sh', '-c', script)).trim() };
}

/** `virtlab vhost-user-net` in a network namespace, so that its TAP interface is there. Its sockets are found from everywhere. */
export async function startInNamespace(
  namespace: NetworkNamespace,
  ...args: readonly string[]
): Promise<AsyncDisposable> {
  const words = ['--conditions=@virtlab/source', MAIN, 'vhost-user-net', '--json', ...args];
  const child = namespace.spawn(process.execPath, words);
  const ended = once(child, 'close');
  let messages = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => (messages += text));
  const end = async (): Promise<void> => {
    child.kill('SIGTERM');
    await ended;
  };
  const lines = createInterface({ input: child.stdout! });
  for await (const line of lines) {
    messages += `${line}\n`;
    if (!line.includes('"listening"')) continue;
    child.stdout!.resume();
    return { [Symbol.asyncDispose]: end };
  }
  await ended;
  throw new Error(`The daemon ended: ${messages}`);
}
