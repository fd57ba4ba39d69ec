/** The last characters of a text that grows without end. */
export class TextTail {
  readonly #limit: number;
  #text = '';

  constructor(limit: number) {
    this.#limit = limit;
  }

  append(text: string): void {
    this.#text = (this.#text + text).slice(-this.#limit);
  }

  get text(): string {
    return this.#text;
  }

  /** For a message: its last lines, indented, or nothing. */
  lastLines(title: string, count: number): string {
    const lines = this.#text.split(/\r?\n/).filter((line) => line.trim() !== '');
    return lines.length === 0
      ? ''
      : `\n${title}:\n${lines
          .slice(-count)
          .map((line) => `  ${line}\n`)
          .join('')}`;
  }
}
