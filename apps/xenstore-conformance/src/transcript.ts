import { XS_DIRECTORY_PART, XS_ERROR, XS_TRANSACTION_START, XS_WATCH_EVENT } from '@virtlab/abi/xs-wire';
import type { XenstorePacket } from '@virtlab/xenstore/wire';
import { textOf } from './frame.ts';
import { maskReply } from './masks.ts';
import { operationName } from './operations.ts';
import { type Script, describeStep } from './script.ts';
import { visible } from './visible.ts';

/**
 * What one step brought about: `connection> message` in the order of arrival on each connection, the connection that
 * made the request first, the others by name.
 */
export type StepOutcome = readonly string[];

/** One outcome a step. */
export type Transcript = readonly StepOutcome[];

/** A request as far as its reply must refer to it. */
export interface Expectation {
  readonly type: number;
  readonly txId: number;
  readonly payload: string;
  /** Name of the transaction that the reply starts. */
  readonly names: string | undefined;
}

/** A message as a line. `expected` is undefined for a reply to raw bytes. */
export function describePacket(packet: XenstorePacket, expected: Expectation | undefined): string {
  const payload = textOf(packet.payload);
  if (packet.type === XS_WATCH_EVENT) {
    const isPlain = packet.reqId === 0 && packet.txId === 0;
    return `event ${visible(payload)}${isPlain ? '' : ` [request ${packet.reqId}, transaction ${packet.txId}]`}`;
  }
  if (expected === undefined) return `#${packet.reqId} ${content(packet, payload)}`;
  const isEcho = packet.type === expected.type || packet.type === XS_ERROR;
  const type = isEcho ? '' : ` [type ${operationName(packet.type)}]`;
  const tx = packet.txId === expected.txId ? '' : ` [transaction ${packet.txId === 0 ? 0 : 'of another id'}]`;
  if (expected.type === XS_TRANSACTION_START && isStarted(packet)) {
    return `a transaction${type}${tx}`;
  }
  return `${content(packet, maskReply(expected.type, expected.payload, payload))}${type}${tx}`;
}

/** Whether the packet is a successful reply to TRANSACTION_START, with the id in decimal. */
export function isStarted(packet: XenstorePacket): boolean {
  return packet.type === XS_TRANSACTION_START && /^[1-9]\d*\0$/.test(textOf(packet.payload));
}

function content(packet: XenstorePacket, payload: string): string {
  if (packet.type === XS_ERROR) return `!${visible(payload.replace(/\0$/, ''))}`;
  if (packet.type === XS_DIRECTORY_PART) return `= ${visible(payload)}`;
  return payload === 'OK\0' ? 'OK' : `= ${visible(payload)}`;
}

/** The steps of a script with what two daemons answered; lines that differ are marked. */
export function sideBySide(
  script: Script,
  left: { readonly name: string; readonly transcript: Transcript },
  right: { readonly name: string; readonly transcript: Transcript },
): string {
  const lines = [`left: ${left.name}; right: ${right.name}`];
  for (const [index, step] of script.entries()) {
    lines.push(`${String(index + 1).padStart(4)}  ${describeStep(step)}`);
    const ours = left.transcript[index] ?? [];
    const theirs = right.transcript[index] ?? [];
    for (let row = 0; row < Math.max(ours.length, theirs.length); row++) {
      const [one = '', other = ''] = [ours[row], theirs[row]];
      if (one === other) lines.push(`        ${one}`);
      else lines.push(`      * ${one.padEnd(40)}  |  ${other}`);
    }
  }
  return lines.join('\n');
}
