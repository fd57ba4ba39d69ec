import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { XENSTORE_DOMAIN_INTERFACE, XENSTORE_RING_MASK, XENSTORE_RING_SIZE } from '@virtlab/abi/xs-wire';
import type { RealDomain } from '../contract.ts';
import { XenstoreMessages } from './xenstore-messages.ts';

const OFFSET = XENSTORE_DOMAIN_INTERFACE.offset;

/** A kernel in a domain: the guest's half of the ring page, by plain reads and writes of the page's file. */
export class RingClient {
  readonly #fd: number;
  readonly #domain: RealDomain;
  readonly #word = new Uint32Array(1);
  readonly messages: XenstoreMessages;

  constructor(domain: RealDomain) {
    this.#domain = domain;
    this.#fd = openSync(domain.ringPath, 'r+');
    this.messages = new XenstoreMessages((bytes) => this.#send(bytes));
    domain.listen(() => this.#receive());
  }

  request(type: number, ...words: readonly string[]): Promise<string> {
    return this.messages.request(type, ...words);
  }

  close(): void {
    closeSync(this.#fd);
  }

  #send(bytes: Uint8Array): void {
    const producer = this.#read(OFFSET.req_prod);
    const used = (producer - this.#read(OFFSET.req_cons)) >>> 0;
    if (used + bytes.length > XENSTORE_RING_SIZE)
      throw new RangeError('the request does not fit into the ring');
    for (let index = 0; index < bytes.length; index++) {
      writeSync(this.#fd, bytes, index, 1, OFFSET.req + ((producer + index) & XENSTORE_RING_MASK));
    }
    this.#write(OFFSET.req_prod, producer + bytes.length);
    this.#domain.kick();
  }

  #receive(): void {
    const consumer = this.#read(OFFSET.rsp_cons);
    const size = (this.#read(OFFSET.rsp_prod) - consumer) >>> 0;
    if (size === 0) return;
    const bytes = Buffer.alloc(size);
    for (let index = 0; index < size; index++) {
      readSync(this.#fd, bytes, index, 1, OFFSET.rsp + ((consumer + index) & XENSTORE_RING_MASK));
    }
    this.#write(OFFSET.rsp_cons, consumer + size);
    this.#domain.kick();
    this.messages.receive(bytes);
  }

  #read(offset: number): number {
    readSync(this.#fd, this.#word, 0, 4, offset);
    return this.#word[0]!;
  }

  #write(offset: number, value: number): void {
    this.#word[0] = value;
    writeSync(this.#fd, this.#word, 0, 4, offset);
  }
}
