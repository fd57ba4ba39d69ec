import { ffi, lastError } from './ffi.ts';
import { closeFd } from './fd.ts';
import { CLONE_NEWNET, O_CLOEXEC, O_RDONLY } from './kernel-abi.ts';

const OWN = '/proc/thread-self/ns/net';

/**
 * Runs `work` with this thread in another network namespace and comes back; `work` must be synchronous. What it opens stays
 * in that namespace. The path is `/run/netns/<name>` or `/proc/<pid>/ns/net`.
 *
 * Throws `LinuxError`: `ENOENT` when there is no such namespace, `EINVAL` when it is no network namespace, `EPERM`
 * without CAP_SYS_ADMIN.
 */
export function inNetworkNamespace<T>(path: string, work: () => T): T {
  using home = openNamespace(OWN);
  using there = openNamespace(path);
  enter(there, path);
  try {
    return work();
  } finally {
    enter(home, OWN);
  }
}

interface Namespace extends Disposable {
  readonly fd: number;
}

function openNamespace(path: string): Namespace {
  const fd = ffi('open').libc.open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw lastError('open', path);
  return { fd, [Symbol.dispose]: () => closeFd(fd) };
}

function enter({ fd }: Namespace, path: string): void {
  if (ffi('setns').libc.setns(fd, CLONE_NEWNET) < 0) throw lastError('setns', `${path} needs CAP_SYS_ADMIN`);
}
