import { assembleDaemon } from '../assemble-daemon.ts';
import type { XenstoreErrorCode } from '../errors.ts';
import { DaemonLogging } from './daemon-logging.ts';
import { readDump, writeDump } from './dump-file.ts';
import { listenXenstore } from './listen.ts';
import { preparePrivateDirectory, userSocketPath } from './runtime-directory.ts';
import type { StartXenstored, Xenstored, XenstoredOptions } from './xenstored.ts';

/** See `StartXenstored`. */
export const startXenstored: StartXenstored = async (options: XenstoredOptions = {}): Promise<Xenstored> => {
  const socketPath = options.socketPath ?? userSocketPath();
  if (options.socketPath === undefined) preparePrivateDirectory(socketPath);
  const image = options.restore === undefined ? undefined : await readDump(options.restore);
  const logging = new DaemonLogging();
  const dumpTo = async (file: string | undefined): Promise<XenstoreErrorCode | undefined> => {
    const target = file ?? options.dump;
    if (target === undefined) return 'EINVAL';
    return writeDump(target, store).then(() => undefined, fileError);
  };
  const { store, server, faults } = assembleDaemon({
    ...(options.profile && { profile: options.profile }),
    ...(options.quotas && { quotas: options.quotas }),
    ...(options.domains && { domains: options.domains }),
    ...(options.seed !== undefined && { seed: options.seed }),
    controlExtensions: options.controlExtensions ?? true,
    control: { ...logging.sinks, ...options.control },
    dump: dumpTo,
    ...(options.trace && { trace: options.trace }),
    schedule: (turn) => void setImmediate(turn),
  });
  if (image !== undefined) store.load(image);
  faults.set(options.faults ?? {});
  logging.writeTo(server.monitor);
  if (options.accessLog !== undefined) await logging.open(options.accessLog);
  const listener = await listenXenstore({ path: socketPath, server }).catch(async (error: unknown) => {
    await logging.close();
    throw error;
  });
  const end = async (): Promise<void> => {
    await listener.close();
    server.close();
    await logging.close();
    if (options.dump !== undefined) await writeDump(options.dump, store);
  };
  let ending: Promise<void> | undefined;
  return {
    socketPath,
    store,
    server,
    faults,
    statistics: () => server.daemonStatistics(),
    reopenLogs: () => logging.reopen(),
    close: () => (ending ??= end()),
  };
};

/** What a failed file operation is on the wire: its own name where the protocol has it. */
function fileError(error: unknown): XenstoreErrorCode {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'ENOENT' || code === 'EACCES' || code === 'ENOSPC' || code === 'EISDIR' || code === 'EROFS')
    return code;
  return 'EIO';
}
