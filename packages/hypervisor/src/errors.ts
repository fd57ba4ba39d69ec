/** Errno names that a hypercall may answer with (Xen public errno.h spelling). */
export const HYPERCALL_CODES = [
  'EPERM',
  'ENOENT',
  'ESRCH',
  'EIO',
  'E2BIG',
  'EAGAIN',
  'ENOMEM',
  'EACCES',
  'EFAULT',
  'EBUSY',
  'EEXIST',
  'ENODEV',
  'EINVAL',
  'ERANGE',
  'ENOSPC',
  'ENOSYS',
  'EOPNOTSUPP',
  'ECONNRESET',
] as const;
export type HypercallCode = (typeof HYPERCALL_CODES)[number];

/** A hypercall that failed. `ECONNRESET`: the hypervisor, or this domain's life, ended. */
export class HypercallError extends Error {
  readonly code: HypercallCode;
  readonly op: string;
  constructor(code: HypercallCode, op: string, message: string) {
    super(`${code}: ${op}: ${message}`);
    this.name = 'HypercallError';
    this.code = code;
    this.op = op;
  }
}

export function isHypercallCode(value: unknown): value is HypercallCode {
  return (HYPERCALL_CODES as readonly unknown[]).includes(value);
}
