import { TransportError } from '@virtlab/virtio';
import { type ProtocolFault, protocolFault } from './fault.ts';

/** What a driver learns of a fault: `EPROTO` for whatever the device may not say. */
export function transportError({ code, message }: ProtocolFault): TransportError {
  switch (code) {
    case 'CLOSED':
      return new TransportError('ENODEV', message);
    case 'TIMEOUT':
      return new TransportError('ETIMEDOUT', message);
    case 'REFUSED':
    case 'SLOW':
      return new TransportError('EIO', message);
    default:
      return new TransportError('EPROTO', message);
  }
}

/** An answer that cannot be right, by its message and field. */
export function badAnswer(request: string, field: string, value: unknown, wanted: string): ProtocolFault {
  return protocolFault('BAD_VALUE', `reply to ${request}: ${field} ${String(value)}, not ${wanted}`);
}
