/** Configuration space over vhost-user: "GET_CONFIG", "SET_CONFIG", or what the caller supplies for a device without. */
import { VHOST_USER_MAX_CONFIG_SIZE } from '@virtlab/abi/vhost-user';
import { TransportError } from '@virtlab/virtio';
import { badAnswer } from './frontend-fault.ts';
import type { FrontendChannel } from './frontend-channel.ts';

export async function readConfigSpace(
  channel: FrontendChannel,
  supplied: Uint8Array,
  offset: number,
  out: Uint8Array,
): Promise<void> {
  const end = checkedEnd(offset, out.length);
  if (out.length === 0) return;
  if (!channel.has('CONFIG')) {
    if (supplied.length === 0)
      throw new TransportError('ENOTSUP', 'The device has no CONFIG: nothing to read');
    if (end > supplied.length) throw tooShort(end);
    out.set(supplied.subarray(offset, end));
    return;
  }
  if (end > VHOST_USER_MAX_CONFIG_SIZE) throw tooShort(end);
  // From 0 on: libvhost-user's devices take no notice of the offset.
  const wanted = { offset: 0, bytes: new Uint8Array(end), isMigration: false };
  const answer = await channel.ask('GET_CONFIG', wanted);
  if (answer === undefined) throw tooShort(end);
  if (answer.offset !== 0) throw channel.fail(badAnswer('GET_CONFIG', 'offset', answer.offset, '0'));
  if (answer.bytes.length !== end) {
    throw channel.fail(badAnswer('GET_CONFIG', 'size', answer.bytes.length, `${end}`));
  }
  out.set(answer.bytes.subarray(offset));
}

export async function writeConfigSpace(
  channel: FrontendChannel,
  offset: number,
  bytes: Uint8Array,
): Promise<void> {
  const end = checkedEnd(offset, bytes.length);
  if (!channel.has('CONFIG'))
    throw new TransportError('ENOTSUP', 'The device has no CONFIG: nothing to write');
  if (end > VHOST_USER_MAX_CONFIG_SIZE) throw tooShort(end);
  if (bytes.length > 0) await channel.tell('SET_CONFIG', { offset, bytes, isMigration: false });
}

function checkedEnd(offset: number, size: number): number {
  if (!Number.isInteger(offset) || offset < 0) throw new RangeError(`Configuration offset ${offset}`);
  return offset + size;
}

function tooShort(end: number): TransportError {
  return new TransportError('EPROTO', `The device gives no configuration of ${end} bytes`);
}
