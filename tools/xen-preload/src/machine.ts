import { closeSync, constants, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';

/**
 * The words that the preload library in the daemon and this process share (`c/machine.h` has the same layout): which domains
 * exist, and the pending bits of event channels. The daemon maps the file; here each word is read and written by one call of
 * four bytes, which Linux does not tear.
 */
const MAGIC = 0x314e_4558;
const OPTIONS_OFFSET = 4;
const POLLS_CHANGES = 1;
const DOMAINS_OFFSET = 4096;
const DOMAIN_COUNT = 0x8000;
const CHANNELS_OFFSET = DOMAINS_OFFSET + 4 * DOMAIN_COUNT;
/** Numbers of channels are below it. */
export const CHANNEL_LIMIT = 0x1_0000;
const CHANNEL_SIZE = 16;
const FILE_SIZE = CHANNELS_OFFSET + CHANNEL_SIZE * CHANNEL_LIMIT;

const OWNER = 0;
const BOUND = 4;
const PENDING_AT_DAEMON = 8;
const PENDING_AT_DOMAIN = 12;

const DOMAIN_EXISTS = 1;
const DOMAIN_SHUTDOWN = 2;
const INCARNATION_SHIFT = 8;
const INCARNATION_COUNT = 1 << 24;

/** VIRQ_DOM_EXC comes on it. 0 is no port in Xen. */
export const VIRQ_CHANNEL = 1;
/** The channel of domain 0, which the daemon binds when it starts. */
export const DOMAIN_0_CHANNEL = 2;

/** Messages of the event socket, besides the numbers of channels. */
export const MESSAGE_READY = 0;
export const MESSAGE_BOUND = 0x8000_0000;

export class MachineFile {
  readonly #fd: number;
  readonly #word = new Uint32Array(1);
  #nextChannel = DOMAIN_0_CHANNEL;
  #nextIncarnation = 1;
  #isOpen = true;

  constructor(path: string) {
    this.#fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
    ftruncateSync(this.#fd, FILE_SIZE);
    this.#write(0, MAGIC);
  }

  /** Whether the daemon asks which domains changed: then creation raises VIRQ_DOM_EXC too, as Xen has done since 4.20. */
  get isPolledForChanges(): boolean {
    return (this.#read(OPTIONS_OFFSET) & POLLS_CHANGES) !== 0;
  }

  addDomain(domid: number): void {
    const incarnation = this.#nextIncarnation++ % INCARNATION_COUNT;
    this.#write(domainOffset(domid), ((incarnation << INCARNATION_SHIFT) | DOMAIN_EXISTS) >>> 0);
  }

  domainExists(domid: number): boolean {
    return (this.#read(domainOffset(domid)) & DOMAIN_EXISTS) !== 0;
  }

  shutDownDomain(domid: number): void {
    this.#write(domainOffset(domid), (this.#read(domainOffset(domid)) | DOMAIN_SHUTDOWN) >>> 0);
  }

  /** The incarnation stays, so that the daemon sees the next domain of that id to be another one. */
  removeDomain(domid: number): void {
    const incarnation = this.#read(domainOffset(domid)) >>> INCARNATION_SHIFT;
    this.#write(domainOffset(domid), (incarnation << INCARNATION_SHIFT) >>> 0);
  }

  /** A new channel that `domid` offers to the daemon. Throws RangeError after 65533 of them. */
  offerChannel(domid: number): number {
    if (this.#nextChannel >= CHANNEL_LIMIT) throw new RangeError(`more than ${CHANNEL_LIMIT} channels`);
    const channel = this.#nextChannel++;
    this.#write(channelOffset(channel) + OWNER, domid + 1);
    return channel;
  }

  withdrawChannel(channel: number): void {
    this.#write(channelOffset(channel) + OWNER, 0);
  }

  /** Sets the pending bit at the daemon's end. True when a message must tell it: the end is bound, the bit was clear. */
  setPendingAtDaemon(channel: number): boolean {
    const offset = channelOffset(channel);
    if (!this.#isOpen || this.#read(offset + BOUND) === 0) return false;
    if (this.#read(offset + PENDING_AT_DAEMON) !== 0) return false;
    this.#write(offset + PENDING_AT_DAEMON, 1);
    return true;
  }

  /** To be called before the domain looks at its ring: what the daemon sends later makes a new message. */
  clearPendingAtDomain(channel: number): void {
    this.#write(channelOffset(channel) + PENDING_AT_DOMAIN, 0);
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    closeSync(this.#fd);
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

function domainOffset(domid: number): number {
  return DOMAINS_OFFSET + 4 * domid;
}

function channelOffset(channel: number): number {
  return CHANNELS_OFFSET + CHANNEL_SIZE * channel;
}
