import type { UnixStream } from '../unix-stream.ts';

export interface Line {
  readonly value: unknown;
  /** Owned by whoever takes the line. */
  readonly fds: number[];
}

/** JSON values with descriptors over a stream, one a line: how a test and its child process talk. */
export class LineChannel {
  readonly stream: UnixStream;
  readonly #lines: Line[] = [];
  readonly #waiting: ((line: Line | undefined) => void)[] = [];
  readonly #fds: number[] = [];
  #text = '';
  #ended = false;

  constructor(stream: UnixStream) {
    this.stream = stream;
    stream.onData((bytes, fds) => this.#receive(bytes, fds));
    stream.onClose(() => {
      this.#ended = true;
      for (const take of this.#waiting.splice(0)) take(undefined);
    });
  }

  send(value: Readonly<Record<string, unknown>>, fds: readonly number[] = []): void {
    this.stream.send(new TextEncoder().encode(`${JSON.stringify({ ...value, fdCount: fds.length })}\n`), fds);
  }

  /** The next line; undefined after the end. */
  async next(): Promise<Line | undefined> {
    const line = this.#lines.shift();
    if (line !== undefined || this.#ended) return line;
    return new Promise((resolve) => void this.#waiting.push(resolve));
  }

  #receive(bytes: Uint8Array, fds: number[]): void {
    this.#fds.push(...fds);
    this.#text += new TextDecoder().decode(bytes);
    for (let end = this.#text.indexOf('\n'); end >= 0; end = this.#text.indexOf('\n')) {
      const value = JSON.parse(this.#text.slice(0, end)) as { fdCount: number };
      this.#text = this.#text.slice(end + 1);
      const line = { value, fds: this.#fds.splice(0, value.fdCount) };
      const take = this.#waiting.shift();
      if (take === undefined) this.#lines.push(line);
      else take(line);
    }
  }
}
