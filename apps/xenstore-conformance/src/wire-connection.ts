import type { ByteStream } from '@virtlab/xenstore';
import { type XenstorePacket, XenstorePacketParser } from '@virtlab/xenstore/wire';

/** oxenstored's replies may be longer than the protocol allows. */
const PAYLOAD_SIZE_MAX = 1 << 20;
/** A daemon that has not answered within this time is taken not to answer. Nothing waits for it otherwise. */
const SILENCE_MS = 1500;
const POKE_MS = 20;

/** Raw packets out, raw packets in, in the order of arrival. */
export class WireConnection {
  readonly #stream: ByteStream;
  readonly #poke: () => void;
  readonly #parser = new XenstorePacketParser(PAYLOAD_SIZE_MAX);
  #received: XenstorePacket[] = [];
  #unsent: Uint8Array = new Uint8Array();
  #awaited: { reqId: number; resolve: (outcome: 'answered' | 'closed') => void } | undefined;
  #ended: string | undefined;
  /** Called once when the connection has ended, for whatever reason. */
  onEnd: (() => void) | undefined;
  /** Reads nothing at the moment. */
  isPaused = false;
  /** May be in the middle of a request: nothing can be asked on it. */
  isMidway = false;

  /** `poke` looks whether something arrived without being told; harmless at any time. */
  constructor(stream: ByteStream, poke: () => void = () => undefined) {
    this.#stream = stream;
    this.#poke = poke;
    stream.attach({
      onData: (bytes) => this.#receive(bytes),
      onDrain: () => this.#flush(),
      onClose: (reason) => this.#end(reason),
    });
  }

  /** Why the daemon ended it, undefined as long as it has not. */
  get ended(): string | undefined {
    return this.#ended;
  }

  send(bytes: Uint8Array): void {
    const joined = new Uint8Array(this.#unsent.length + bytes.length);
    joined.set(this.#unsent);
    joined.set(bytes, this.#unsent.length);
    this.#unsent = joined;
    this.#flush();
  }

  /** Resolves when the reply to `reqId` has arrived, the connection has ended, or the daemon stays silent. */
  async answered(reqId: number): Promise<'answered' | 'closed' | 'silent'> {
    if (this.#received.some((packet) => packet.reqId === reqId)) return 'answered';
    if (this.#ended !== undefined) return 'closed';
    const { promise, resolve } = Promise.withResolvers<'answered' | 'closed' | 'silent'>();
    this.#awaited = { reqId, resolve };
    const watchdog = setTimeout(() => resolve('silent'), SILENCE_MS);
    const poker = setInterval(this.#poke, POKE_MS);
    const outcome = await promise;
    clearTimeout(watchdog);
    clearInterval(poker);
    this.#awaited = undefined;
    return outcome;
  }

  /** Everything that arrived since the last call. */
  take(): XenstorePacket[] {
    if (!this.isPaused) this.#poke();
    const taken = this.#received;
    this.#received = [];
    return taken;
  }

  pause(): void {
    this.isPaused = true;
    this.#stream.pause();
  }

  resume(): void {
    this.isPaused = false;
    this.#stream.resume();
    this.#flush();
  }

  close(): void {
    this.#stream.close();
  }

  /** The daemon does not answer: nothing more is expected of it here. */
  abandon(why: '(no answer)' | '(connection ended)'): void {
    this.#ended ??= why;
    this.#stream.close();
  }

  #flush(): void {
    const bytes = this.#unsent;
    this.#unsent = new Uint8Array();
    const taken = this.#stream.send(bytes);
    if (taken < bytes.length) this.#unsent = bytes.subarray(taken);
  }

  #receive(bytes: Uint8Array): void {
    this.#parser.push(bytes);
    for (;;) {
      const parsed = this.#parser.next();
      if (parsed.status === 'error') throw new Error(`Unreadable message: ${parsed.reason}`);
      if (parsed.status === 'need') return;
      const packet = { ...parsed.packet, payload: parsed.packet.payload.slice() };
      this.#received.push(packet);
      if (packet.reqId === this.#awaited?.reqId) this.#awaited.resolve('answered');
    }
  }

  #end(reason: string | undefined): void {
    this.#ended ??= reason?.includes('on the ring') === true ? `(${reason})` : '(connection ended)';
    this.#awaited?.resolve('closed');
    this.onEnd?.();
    this.onEnd = undefined;
  }
}
