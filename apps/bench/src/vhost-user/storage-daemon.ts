import { isListening } from '@virtlab/linux';
import { ForeignProcess, hasPeer } from './foreign-process.ts';

const COMMAND = 'qemu-storage-daemon';
const DEBIAN_PACKAGE = 'qemu-system-common';

export function hasStorageDaemon(onMissing: (peer: string) => void): boolean {
  return hasPeer(COMMAND, ['--version'], DEBIAN_PACKAGE, onMissing);
}

/** Exports the last of the nodes, each an argument of `--blockdev`, to one client at a time. Rejects with what it says. */
export async function startStorageDaemon(path: string, nodes: readonly string[]): Promise<ForeignProcess> {
  const place = `addr.type=unix,addr.path=${path}`;
  const daemon = new ForeignProcess(COMMAND, [
    ...nodes.flatMap((node) => ['--blockdev', node]),
    '--export',
    `type=vhost-user-blk,id=e0,node-name=d0,${place},writable=on,num-queues=1`,
  ]);
  await daemon.until(() => isListening(path));
  return daemon;
}

/** A raw file, by io_uring where the daemon and the kernel do it, else by threads: which is said. */
export async function startStorageDaemonOnFile(
  path: string,
  file: string,
): Promise<{ readonly daemon: ForeignProcess; readonly aio: 'io_uring' | 'threads' }> {
  const nodes = (aio: string): readonly string[] => [
    `driver=file,node-name=f0,filename=${file},aio=${aio},locking=off`,
    'driver=raw,node-name=d0,file=f0',
  ];
  try {
    return { daemon: await startStorageDaemon(path, nodes('io_uring')), aio: 'io_uring' };
  } catch {
    return { daemon: await startStorageDaemon(path, nodes('threads')), aio: 'threads' };
  }
}
