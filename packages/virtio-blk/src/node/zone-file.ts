import {
  closeSync,
  constants,
  fdatasync,
  fdatasyncSync,
  fstatSync,
  openSync,
  readSync,
  writeSync,
} from 'node:fs';
import { BlkBackendError } from '../backend.ts';
import type { ZoneLayout } from '../zone-contract.ts';
import type { ZoneStore } from '../zone-store.ts';
import type { ZoneTable } from '../zone-table.ts';

/** First record: what makes the file one of ours, of one layout. The numbers are little-endian. */
const MAGIC = 0x7a6f_6e65;
const VERSION = 1;
/** Bytes of the head and of each zone's record; a record lies within a sector, so that it is written whole or not. */
const RECORD_SIZE = 16;
const HEAD_WORDS = RECORD_SIZE / 4;
const HIGH = 2 ** 32;

/**
 * Zone states in a file beside the image: a head of `magic, version, zone sectors, zone count` as 32-bit words, then by zone
 * `written sectors (64 bits), state, 0`. Records are written when they changed, in place.
 *
 * @throws BlkBackendError with the errno when the file cannot be opened, `EINVAL` when it is no zone file or of another layout
 */
export function openZoneFile(path: string): ZoneStore {
  return new ZoneFile(path);
}

class ZoneFile implements ZoneStore {
  readonly #path: string;
  readonly #fd: number;
  #records: Uint32Array = new Uint32Array();
  /** The first write that failed: no sync may succeed from then on. */
  #failure: Error | undefined;

  constructor(path: string) {
    this.#path = path;
    try {
      this.#fd = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600);
    } catch (error) {
      throw this.#error('open', error);
    }
  }

  load(table: ZoneTable): void {
    const { layout, count } = table;
    const size = (count + 1) * RECORD_SIZE;
    this.#records = new Uint32Array(size / 4);
    const present = fstatSync(this.#fd).size;
    if (present === 0) {
      this.#records.set([MAGIC, VERSION, layout.zoneSectors, count]);
      this.#write(0, size);
      return;
    }
    const head = new Uint32Array(HEAD_WORDS);
    readSync(this.#fd, head, 0, RECORD_SIZE, 0);
    const isOurs =
      head[0] === MAGIC && head[1] === VERSION && head[2] === layout.zoneSectors && head[3] === count;
    if (!isOurs || present !== size || readSync(this.#fd, this.#records, 0, size, 0) !== size) {
      closeSync(this.#fd);
      const message = `${this.#path} is no zone file of ${count} zones of ${layout.zoneSectors} sectors`;
      throw new BlkBackendError('EINVAL', 'open', this.#path, message);
    }
    this.#restore(table, layout);
  }

  save(table: ZoneTable): void {
    const records = this.#records;
    let first = -1;
    for (let index = 0; index < table.count; index += 1) {
      const at = (index + 1) * HEAD_WORDS;
      const written = table.written[index]!;
      const [low, high, state] = [written >>> 0, Math.floor(written / HIGH), table.state[index]!];
      const isSame = records[at] === low && records[at + 1] === high && records[at + 2] === state;
      if (!isSame) {
        records[at] = low;
        records[at + 1] = high;
        records[at + 2] = state;
        if (first < 0) first = index;
      }
      if ((isSame || index === table.count - 1) && first >= 0) {
        const end = isSame ? index : index + 1;
        this.#write((first + 1) * RECORD_SIZE, (end - first) * RECORD_SIZE);
        first = -1;
      }
    }
  }

  sync(done: (error: Error | null) => void): void {
    if (this.#failure !== undefined) {
      const failure = this.#failure;
      queueMicrotask(() => done(failure));
      return;
    }
    fdatasync(this.#fd, (error) => {
      if (error !== null && error !== undefined) this.#failure ??= error;
      done(error ?? null);
    });
  }

  async close(): Promise<void> {
    try {
      if (this.#failure === undefined) fdatasyncSync(this.#fd);
    } finally {
      closeSync(this.#fd);
    }
  }

  /** What stands in a file may be anything: a pointer beyond its zone is its end, a state that cannot rest is none. */
  #restore(table: ZoneTable, layout: ZoneLayout): void {
    for (let index = layout.conventionalCount; index < table.count; index += 1) {
      const at = (index + 1) * HEAD_WORDS;
      const written = this.#records[at]! + this.#records[at + 1]! * HIGH;
      table.restore(index, this.#records[at + 2]! & 0xf, Math.min(written, table.capacityOf(index)));
    }
  }

  #write(position: number, size: number): void {
    try {
      const bytes = new Uint8Array(this.#records.buffer, position, size);
      if (writeSync(this.#fd, bytes, 0, size, position) !== size) throw new Error('short write');
    } catch (error) {
      this.#failure ??= this.#error('write', error);
    }
  }

  #error(operation: string, error: unknown): BlkBackendError {
    const code = (error as NodeJS.ErrnoException).code ?? 'EIO';
    return new BlkBackendError(code, operation, this.#path, `${operation} of ${this.#path} failed`, {
      cause: error,
    });
  }
}
