import { ffi } from './ffi.ts';

/**
 * Ends the process with this exit code, wherever its threads are (_exit(2)): `process.exit` interrupts worker threads first, which the
 * FFI does not survive where a descriptor that one watches is ready just then. Nothing else runs: for the end of an `exit` handler.
 * Throws `LinuxError` `ENOSYS` without the FFI.
 */
export function exitNow(code: number): void {
  ffi('_exit').libc._exit(code);
}
