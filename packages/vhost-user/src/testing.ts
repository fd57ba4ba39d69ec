/** For tests of other packages: needs vitest. */
export {
  StorageDaemon,
  describeWithStorageDaemon,
  type StorageDaemonOptions,
} from './testing/storage-daemon.ts';
