import type { node } from 'koffi';
import { ffi } from './ffi.ts';

/** What the poll handle calls: libuv's status first (its type declaration leaves it out), then the events. */
type PollCallback = (status: number, events: node.PollEvents) => void;

/** Handles stay reachable while they are open: the FFI closes a handle that is collected. */
const open = new Set<FdWatch>();

/**
 * Readiness of one descriptor in Node's event loop (uv_poll_t, level triggered). A descriptor may have one
 * watch per event loop. Close the watch before the descriptor.
 */
export class FdWatch {
  readonly #fd: number;
  readonly #callback: PollCallback;
  #handle: node.PollHandle | undefined;
  #referenced = true;
  #readable = false;
  #writable = false;

  constructor(fd: number, onEvents: (readable: boolean, writable: boolean) => void) {
    this.#fd = fd;
    this.#callback = (status, events) => {
      try {
        // On POLLERR libuv stops the handle and reports no event: the owner's next read or write finds the
        // error.
        const failed = status < 0;
        onEvents(failed || events.readable || events.disconnect, failed || events.writable);
        if (failed && this.#handle !== undefined) this.set(this.#readable, this.#writable);
      } catch (error) {
        // The FFI swallows what a callback throws.
        setImmediate(() => {
          throw error;
        });
      }
    };
  }

  /** Says which events to watch. None stops the watch and lets the process end. */
  set(readable: boolean, writable: boolean): void {
    this.#readable = readable;
    this.#writable = writable;
    if (!readable && !writable) {
      this.#handle?.stop();
      return;
    }
    const callback = this.#callback as unknown as (events: node.PollEvents) => void;
    if (this.#handle !== undefined) {
      this.#handle.start({ readable, writable }, callback);
      return;
    }
    this.#handle = ffi('poll').koffi.node.poll(this.#fd, { readable, writable }, callback);
    open.add(this);
    if (!this.#referenced) this.#handle.unref();
  }

  ref(): void {
    this.#referenced = true;
    this.#handle?.ref();
  }

  unref(): void {
    this.#referenced = false;
    this.#handle?.unref();
  }

  close(): void {
    this.#handle?.close();
    this.#handle = undefined;
    open.delete(this);
  }
}

/** A watch of `watchReadable`. */
export interface ReadableWatch extends Disposable {
  /** Ends the watch; further calls do nothing. The descriptor stays open. */
  close(): void;
  /** Whether the watch keeps the process alive (it does at first). */
  ref(): void;
  unref(): void;
}

/**
 * Calls `onReadable` from Node's event loop while `fd` is readable, hung up or in error (level triggered: the
 * handler must read). What it throws becomes an uncaught exception. One watch per descriptor; close it before
 * the descriptor.
 */
export function watchReadable(fd: number, onReadable: () => void): ReadableWatch {
  let watch: FdWatch | undefined = new FdWatch(fd, () => onReadable());
  watch.set(true, false);
  const close = (): void => {
    watch?.close();
    watch = undefined;
  };
  return { close, ref: () => watch?.ref(), unref: () => watch?.unref(), [Symbol.dispose]: close };
}
