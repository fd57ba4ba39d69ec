import { type FileHandle, open } from 'node:fs/promises';

export interface LogFileOptions {
  /** Characters that may wait for a slow disk; further lines are dropped. Default 1 Mi. */
  readonly pendingSize?: number;
  /** Opens the file; for tests. */
  readonly open?: (path: string) => Promise<Pick<FileHandle, 'appendFile' | 'close'>>;
}

const PENDING_SIZE = 2 ** 20;
/** Only the owner may read what the clients asked. */
const LOG_MODE = 0o600;

/**
 * Appends lines to a file without ever making the writer wait: they are gathered, and written when the last write is
 * done. When the disk cannot keep up, lines are dropped, and the log says how many where they are missing.
 */
export class LogFile {
  readonly #pendingSizeMax: number;
  readonly #open: NonNullable<LogFileOptions['open']>;
  #path: string;
  #file: Pick<FileHandle, 'appendFile' | 'close'> | undefined;
  #pending: string[] = [];
  #pendingSize = 0;
  #droppedCount = 0;
  #totalDroppedCount = 0;
  #writing: Promise<void> | undefined;
  #isReopening = false;
  #isClosed = false;

  private constructor(path: string, options: LogFileOptions) {
    this.#path = path;
    this.#pendingSizeMax = options.pendingSize ?? PENDING_SIZE;
    this.#open = options.open ?? ((name) => open(name, 'a', LOG_MODE));
  }

  /** Rejects if the file cannot be opened for appending. */
  static async open(path: string, options: LogFileOptions = {}): Promise<LogFile> {
    const log = new LogFile(path, options);
    log.#file = await log.#open(path);
    return log;
  }

  get path(): string {
    return this.#path;
  }

  /** Lines that were dropped so far, because the disk was slow or refused. */
  get droppedCount(): number {
    return this.#totalDroppedCount;
  }

  /** Never waits, never throws. */
  write(line: string): void {
    if (this.#isClosed || this.#pendingSize + line.length > this.#pendingSizeMax) {
      this.#drop(1);
      return;
    }
    if (this.#droppedCount > 0) this.#push(`${this.#droppedCount} lines dropped`);
    this.#droppedCount = 0;
    this.#push(line);
    this.#writing ??= this.#writeAll();
  }

  /** Opens the file anew, by its name or by another: the old one was renamed. Lines before go to the old one. */
  async reopen(path: string = this.#path): Promise<void> {
    if (this.#isClosed) return;
    const file = await this.#open(path);
    this.#isReopening = true;
    await this.#writing;
    await this.#file?.close().catch(() => undefined);
    this.#file = file;
    this.#path = path;
    this.#isReopening = false;
    if (this.#pending.length > 0) this.#writing ??= this.#writeAll();
  }

  /** Writes what waits, and ends. Idempotent. */
  async close(): Promise<void> {
    if (this.#droppedCount > 0 && !this.#isClosed) this.#push(`${this.#droppedCount} lines dropped`);
    this.#isClosed = true;
    this.#droppedCount = 0;
    if (this.#pending.length > 0) this.#writing ??= this.#writeAll();
    await this.#writing;
    await this.#file?.close().catch(() => undefined);
    this.#file = undefined;
  }

  #push(line: string): void {
    this.#pending.push(line);
    this.#pendingSize += line.length + 1;
  }

  #drop(count: number): void {
    this.#droppedCount += count;
    this.#totalDroppedCount += count;
  }

  async #writeAll(): Promise<void> {
    await Promise.resolve(); // what this turn of the loop has to say goes with it
    while (this.#pending.length > 0 && !this.#isReopening) {
      const lines = this.#pending;
      this.#pending = [];
      try {
        await this.#file?.appendFile(`${lines.join('\n')}\n`);
      } catch {
        this.#drop(lines.length); // a full disk is no reason to stop serving
      }
      this.#pendingSize -= lines.reduce((sum, line) => sum + line.length + 1, 0);
    }
    this.#writing = undefined;
  }
}
