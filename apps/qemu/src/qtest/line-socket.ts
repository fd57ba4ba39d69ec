import { readSync, writeSync } from 'node:fs';
import { PollSet, closeFd } from '@virtlab/linux';

const CHUNK_SIZE = 65536;
const NEW_LINE = 0x0a;
/** How long to wait for input at a time while the socket takes no output. */
const OUTPUT_PAUSE_MS = 1;

/**
 * Lines over a non-blocking stream socket, which it owns. Sends and waits block the thread: what uses it must be
 * synchronous. Reading goes on while a peer takes no output, so that two full sockets do not lock each other.
 */
export class LineSocket implements Disposable {
  readonly #poll = new PollSet(1);
  readonly #chunk = Buffer.alloc(CHUNK_SIZE);
  readonly #lines: string[] = [];
  #fd: number;
  #rest = '';
  #hasEnded = false;

  constructor(fd: number) {
    this.#fd = fd;
    this.#poll.add(fd);
  }

  /** For `watchReadable`; -1 once disposed. */
  get fd(): number {
    return this.#fd;
  }

  /** The peer closed its end; lines that came before may still be there. */
  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** False when the peer is gone, or took nothing for `timeoutMs`. */
  send(text: string, timeoutMs: number): boolean {
    const bytes = Buffer.from(text);
    const until = performance.now() + timeoutMs;
    for (let from = 0; from < bytes.length;) {
      const count = this.#write(bytes, from);
      if (count < 0 || performance.now() > until) return false;
      if (count === 0 && this.#poll.wait(OUTPUT_PAUSE_MS) > 0) this.#fill();
      from += count;
    }
    return true;
  }

  /** The next line, without its end; undefined when there is none in `timeoutMs`, or ever. */
  receive(timeoutMs: number): string | undefined {
    let line = this.tryReceive();
    for (const until = performance.now() + timeoutMs; line === undefined && !this.#hasEnded;) {
      const restMs = until - performance.now();
      if (restMs <= 0 || this.#poll.wait(restMs) === 0) return undefined;
      line = this.tryReceive();
    }
    return line;
  }

  /** The next line that has arrived. */
  tryReceive(): string | undefined {
    if (this.#lines.length === 0) this.#fill();
    return this.#lines.shift();
  }

  [Symbol.dispose](): void {
    if (this.#fd < 0) return;
    this.#hasEnded = true;
    closeFd(this.#fd);
    this.#fd = -1;
  }

  /** Bytes taken; -1 when the peer is gone. */
  #write(bytes: Buffer, from: number): number {
    if (this.#hasEnded) return -1;
    try {
      return writeSync(this.#fd, bytes, from);
    } catch (error) {
      if (codeOf(error) === 'EAGAIN') return 0;
      this.#hasEnded = true;
      return -1;
    }
  }

  #fill(): void {
    while (!this.#hasEnded) {
      let count: number;
      try {
        count = readSync(this.#fd, this.#chunk);
      } catch (error) {
        if (codeOf(error) === 'EAGAIN') return;
        count = 0;
      }
      if (count === 0) this.#hasEnded = true;
      else this.#take(count);
      if (count < CHUNK_SIZE) return;
    }
  }

  #text(from: number, to: number): string {
    return this.#chunk.toString('latin1', from, to);
  }

  #take(count: number): void {
    const end = this.#chunk.lastIndexOf(NEW_LINE, count - 1);
    if (end < 0) {
      this.#rest += this.#text(0, count);
      return;
    }
    const text = this.#rest + this.#text(0, end);
    this.#rest = this.#text(end + 1, count);
    for (const line of text.split('\n')) this.#lines.push(line);
  }
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code;
}
