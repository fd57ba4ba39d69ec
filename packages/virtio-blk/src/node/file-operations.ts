import { read, readv, write, writev } from 'node:fs';
import { VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK } from '@virtlab/abi/virtio-blk';

/** The calls of node:fs that are used; a parameter so that short transfers can be had at will. */
export interface FileCalls {
  readonly read: FileCall;
  readonly write: FileCall;
}

type FileCall = (
  fd: number,
  bytes: Uint8Array,
  offset: number,
  size: number,
  position: number,
  done: (error: Error | null, count: number) => void,
) => void;

/** As `FileCalls`, for several pieces at once. */
export interface VectorCalls {
  readonly read: VectorCall;
  readonly write: VectorCall;
}

type VectorCall = (
  fd: number,
  pieces: readonly Uint8Array[],
  position: number,
  done: (error: Error | null, count: number) => void,
) => void;

/** Reports a failed operation to the backend's owner. */
type OperationError = (operation: string, error: Error) => void;

/**
 * Reads and writes on Node's thread pool, in place on guest memory. Operation objects and their callbacks are reused;
 * what Node itself allocates for a call is beyond our reach.
 */
export class FileOperations {
  readonly #fd: number;
  readonly #calls: FileCalls;
  readonly #vectorCalls: VectorCalls;
  readonly #ended: (token: number, status: number) => void;
  readonly #onError: OperationError;
  readonly #idleOperations: FileOperation[] = [];
  #runningCount = 0;
  #drained: PromiseWithResolvers<void> | undefined;

  constructor(
    fd: number,
    ended: (token: number, status: number) => void,
    onError: OperationError,
    calls: FileCalls = { read, write },
    vectorCalls: VectorCalls = { read: readv, write: writev },
  ) {
    this.#fd = fd;
    this.#calls = calls;
    this.#vectorCalls = vectorCalls;
    this.#ended = ended;
    this.#onError = onError;
  }

  read(bytes: Uint8Array, offset: number, size: number, position: number, token: number): void {
    this.#take().start('read', bytes, offset, size, position, token, false);
  }

  write(bytes: Uint8Array, offset: number, size: number, position: number, token: number): void {
    this.#take().start('write', bytes, offset, size, position, token, false);
  }

  /** Writes `size` bytes of which `pattern` is repeated. */
  writeRepeated(pattern: Uint8Array, size: number, position: number, token: number): void {
    this.#take().start('write', pattern, 0, size, position, token, true);
  }

  /** The pieces are the operation's from now on. */
  readVector(pieces: Uint8Array[], position: number, token: number): void {
    this.#startVector('read', pieces, position, token);
  }

  writeVector(pieces: Uint8Array[], position: number, token: number): void {
    this.#startVector('write', pieces, position, token);
  }

  async drain(): Promise<void> {
    if (this.#runningCount === 0) return;
    this.#drained ??= Promise.withResolvers<void>();
    await this.#drained.promise;
  }

  #take(): FileOperation {
    this.#runningCount += 1;
    return this.#idleOperations.pop() ?? new FileOperation(this.#fd, this.#calls, this.#onEnd);
  }

  #startVector(kind: 'read' | 'write', pieces: Uint8Array[], position: number, token: number): void {
    this.#runningCount += 1;
    const operation = { kind, token };
    const call = this.#vectorCalls[kind];
    let left = pieces;
    let at = position;
    const onDone = (error: Error | null, count: number): void => {
      if (error !== null && error !== undefined) {
        this.#finish(operation, error);
        return;
      }
      at += count;
      left = withoutFirst(left, count);
      if (left.length === 0) this.#finish(operation, undefined);
      else if (count === 0) {
        this.#finish(operation, new Error(`the ${kind} moved no bytes at byte ${at}`));
      } else call(this.#fd, left, at, onDone);
    };
    call(this.#fd, left, at, onDone);
  }

  readonly #onEnd = (operation: FileOperation, error: Error | undefined): void => {
    this.#idleOperations.push(operation);
    this.#finish(operation, error);
  };

  #finish(
    { kind, token }: { readonly kind: string; readonly token: number },
    error: Error | undefined,
  ): void {
    this.#runningCount -= 1;
    if (error !== undefined) this.#onError(kind, error);
    this.#ended(token, error === undefined ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR);
    if (this.#runningCount > 0) return;
    this.#drained?.resolve();
    this.#drained = undefined;
  }
}

/** What remains of the pieces after their first `count` bytes. */
function withoutFirst(pieces: Uint8Array[], count: number): Uint8Array[] {
  let skip = count;
  let index = 0;
  while (index < pieces.length && skip >= pieces[index]!.length) {
    skip -= pieces[index]!.length;
    index += 1;
  }
  const left = pieces.slice(index);
  if (skip > 0) left[0] = left[0]!.subarray(skip);
  return left;
}

/** One read or write until all its bytes are through: a call may do less than it was asked for. */
class FileOperation {
  kind: 'read' | 'write' = 'read';
  token = 0;
  readonly #fd: number;
  readonly #calls: FileCalls;
  readonly #onEnd: (operation: FileOperation, error: Error | undefined) => void;
  #bytes: Uint8Array = new Uint8Array();
  #offset = 0;
  #left = 0;
  #position = 0;
  #isRepeated = false;

  constructor(
    fd: number,
    calls: FileCalls,
    onEnd: (operation: FileOperation, error: Error | undefined) => void,
  ) {
    this.#fd = fd;
    this.#calls = calls;
    this.#onEnd = onEnd;
  }

  start(
    kind: 'read' | 'write',
    bytes: Uint8Array,
    offset: number,
    size: number,
    position: number,
    token: number,
    isRepeated: boolean,
  ): void {
    this.kind = kind;
    this.token = token;
    this.#bytes = bytes;
    this.#offset = offset;
    this.#left = size;
    this.#position = position;
    this.#isRepeated = isRepeated;
    this.#continue();
  }

  #continue(): void {
    const count = this.#isRepeated ? Math.min(this.#left, this.#bytes.length) : this.#left;
    this.#calls[this.kind](this.#fd, this.#bytes, this.#offset, count, this.#position, this.#onDone);
  }

  readonly #onDone = (error: Error | null, count: number): void => {
    if (error !== null && error !== undefined) {
      this.#onEnd(this, error);
      return;
    }
    if (count === 0 && this.#left > 0) {
      this.#onEnd(this, new Error(`the ${this.kind} moved no bytes at byte ${this.#position}`));
      return;
    }
    this.#left -= count;
    this.#position += count;
    if (!this.#isRepeated) this.#offset += count;
    if (this.#left > 0) this.#continue();
    else this.#onEnd(this, undefined);
  };
}
