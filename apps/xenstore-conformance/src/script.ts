import { operationName } from './operations.ts';
import { visible } from './visible.ts';

/**
 * One connection of a script, by name: `0`, `0b`, `0c` are socket clients, opened when they are first used; any other
 * number is the ring of that domain, which exists from its INTRODUCE until the domain is gone.
 */
export type ConnectionName = string;

/**
 * One step. Payloads and raw bytes are strings of bytes (code units up to 255). Nothing in a step depends on the
 * daemon: transactions have names, and what INTRODUCE needs is filled in when it is played.
 */
export type Step =
  | {
      readonly kind: 'request';
      readonly on: ConnectionName;
      readonly op: number;
      readonly payload: string;
      /** Name of the transaction, `#` and a number for an id on the wire, or none. */
      readonly tx?: string;
      /** Name of the transaction that the reply starts. */
      readonly names?: string;
    }
  /** INTRODUCE with the domain's own port; when it is accepted the domain connects to its ring. */
  | { readonly kind: 'introduce'; readonly on: ConnectionName; readonly domid: number }
  /** Any bytes, whole requests or not. Their replies are shown with `#` and the request's number. */
  | { readonly kind: 'raw'; readonly on: ConnectionName; readonly bytes: string }
  /** The domain begins to exist, shuts down but stays. */
  | { readonly kind: 'create' | 'shutdown'; readonly domid: number }
  /** It ceases to exist, but if it may owe the daemon for a conflict that it caused: `atOnce` or when that is forgiven. */
  | { readonly kind: 'destroy'; readonly domid: number; readonly atOnce?: true }
  /** All clients close their sockets. */
  | { readonly kind: 'close all' }
  /** The client closes its socket; stops or goes on reading; asks for a reconnection of its ring. */
  | { readonly kind: 'close' | 'pause' | 'resume' | 'reconnect'; readonly on: ConnectionName };

export type Script = readonly Step[];

/** One line that says what the step does. */
export function describeStep(step: Step): string {
  switch (step.kind) {
    case 'request': {
      const tx = step.tx === undefined ? '' : `/${step.tx}`;
      const names = step.names === undefined ? '' : ` as ${step.names}`;
      return `${step.on}${tx} ${operationName(step.op)} ${visible(step.payload)}${names}`;
    }
    case 'introduce':
      return `${step.on} INTRODUCE domain ${step.domid}`;
    case 'raw':
      return `${step.on} sends ${visible(step.bytes)}`;
    case 'create':
    case 'shutdown':
      return `domain ${step.domid}: ${step.kind}`;
    case 'destroy':
      return `domain ${step.domid}: ${step.kind}${step.atOnce === true ? ' at once' : ''}`;
    case 'close all':
      return 'all sockets: close';
    case 'close':
    case 'pause':
    case 'resume':
    case 'reconnect':
      return `${step.on}: ${step.kind}`;
  }
}
