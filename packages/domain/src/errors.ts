import { EventChannelError } from '@virtlab/event-channel';
import { HypercallError } from '@virtlab/hypervisor';

/** A failed hypercall of the event channels, in their own error class. */
export function toEventChannelError(error: unknown): never {
  if (!(error instanceof HypercallError)) throw error;
  const { code, message } = error;
  switch (code) {
    case 'EINVAL':
    case 'ENOSPC':
    case 'ESRCH':
    case 'EPERM':
    case 'ENOENT':
    case 'EBUSY':
    case 'EEXIST':
    case 'ENOMEM':
    case 'ENOSYS':
    case 'EACCES':
    case 'EAGAIN':
    case 'EOPNOTSUPP':
      throw new EventChannelError(code, message.slice(code.length + 2));
    default:
      throw new EventChannelError('EIO', message);
  }
}

/** Building or running a domain failed. */
export class DomainError extends Error {
  readonly code: 'ENODEV' | 'EINVAL' | 'EIO' | 'ETIMEDOUT' | 'ENOSYS';
  constructor(code: DomainError['code'], message: string, options?: ErrorOptions) {
    super(`${code}: ${message}`, options);
    this.name = 'DomainError';
    this.code = code;
  }
}
