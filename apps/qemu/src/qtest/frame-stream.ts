import { UnixStream } from '@virtlab/linux';

const LENGTH_SIZE = 4;
/** QEMU's NET_BUFSIZE: it neither sends nor takes more. */
const FRAME_SIZE_MAX = 4096 + 65536;

/**
 * The other end of QEMU's `-netdev stream`: Ethernet frames, each behind its length as four bytes, the highest first. Owns
 * its descriptor, a stream socket. What is no such stream ends it.
 */
export class FrameStream implements Disposable {
  readonly #stream: UnixStream;
  #rest = new Uint8Array();
  #onFrame: ((frame: Uint8Array) => void) | undefined;

  constructor(fd: number) {
    this.#stream = UnixStream.fromFd(fd);
    this.#stream.onData((bytes) => this.#take(bytes));
  }

  /** At most one handler; frames are valid during the call. Without it they are lost. */
  onFrame(handler: ((frame: Uint8Array) => void) | undefined): void {
    this.#onFrame = handler;
  }

  /** Takes a copy. Throws as `UnixStream.send`. */
  send(frame: Uint8Array): void {
    const bytes = new Uint8Array(LENGTH_SIZE + frame.length);
    new DataView(bytes.buffer).setUint32(0, frame.length);
    bytes.set(frame, LENGTH_SIZE);
    this.#stream.send(bytes);
  }

  [Symbol.dispose](): void {
    this.#stream.close();
  }

  #take(bytes: Uint8Array): void {
    const all = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    const view = new DataView(all.buffer, all.byteOffset, all.length);
    let at = 0;
    while (at + LENGTH_SIZE <= all.length) {
      const size = view.getUint32(at);
      if (size > FRAME_SIZE_MAX) {
        this.#stream.close();
        return;
      }
      if (at + LENGTH_SIZE + size > all.length) break;
      this.#onFrame?.(all.subarray(at + LENGTH_SIZE, at + LENGTH_SIZE + size));
      at += LENGTH_SIZE + size;
    }
    this.#rest = all.slice(at);
  }
}
