import { VIRTIO_ID_NET } from '@virtlab/abi/virtio';
import { ScriptedTransport, type ScriptedTransportOptions } from '@virtlab/virtio/testing';
import { RECEIVE_QUEUE } from '../protocol.ts';

export type ScriptedCardOptions = Pick<ScriptedTransportOptions, 'features' | 'config'> &
  Partial<ScriptedTransportOptions>;

/** A network card of one pair of queues, unless the options say otherwise. */
export function createScriptedCard(options: ScriptedCardOptions): ScriptedTransport {
  return new ScriptedTransport({
    deviceType: VIRTIO_ID_NET,
    queueCount: 2,
    memorySize: 1 << 20,
    ...options,
  });
}

/** The next chain of a queue, and the buffer that it begins with, as bytes of the driver's memory. */
export function takeBuffer(
  card: ScriptedTransport,
  queue: number,
): { readonly head: number; readonly buffer: Uint8Array } {
  const { head, descriptors } = card.take(queue);
  const { address, size } = descriptors[0]!;
  const at = card.at(address);
  return { head, buffer: card.memory.u8.subarray(at, at + size) };
}

/** Fills the next receive buffer and says it was used; without a call. */
export function receiveBytes(
  card: ScriptedTransport,
  bytes: Uint8Array,
  usedSize: number = bytes.length,
): void {
  const { head, buffer } = takeBuffer(card, RECEIVE_QUEUE);
  buffer.set(bytes);
  card.rings[RECEIVE_QUEUE]!.use(head, usedSize);
}
