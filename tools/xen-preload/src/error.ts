/**
 * Why a real daemon could not be started or used.
 *
 * - `missing`: the program, the compiler or the C headers are not on this machine; the message names the Debian package.
 * - `compile`: gcc refused the preload library; the message has its output.
 * - `exited`: the daemon ended, or did not serve in time; the message has what it wrote to its standard error.
 * - `EEXIST`: the domain exists already.
 */
export type RealXenstoredErrorCode = 'missing' | 'compile' | 'exited' | 'EEXIST';

export class RealXenstoredError extends Error {
  readonly code: RealXenstoredErrorCode;

  constructor(code: RealXenstoredErrorCode, message: string) {
    super(message);
    this.name = 'RealXenstoredError';
    this.code = code;
  }
}
