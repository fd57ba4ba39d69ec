import type { EventAbi } from '@virtlab/event-channel';

/** What a domain of the kill test can be told. */
export type EventOrder =
  | { readonly order: 'use'; readonly abi: EventAbi }
  /** Answers the port; events on it are counted. */
  | { readonly order: 'open'; readonly remote: number }
  /** Answers the port, once the peer is mapped. */
  | { readonly order: 'bind'; readonly remote: number; readonly port: number }
  | { readonly order: 'send'; readonly port: number }
  /** Sends on the ports, in a random order, until it is killed. */
  | { readonly order: 'storm'; readonly ports: readonly number[]; readonly seed: number }
  /** Answers how many events were heard on a port. */
  | { readonly order: 'heard'; readonly port: number };
