import { UnixStream } from '@virtlab/linux';
import { FRAME_LENGTH_SIZE, FrameStreamReader } from '@virtlab/virtio-net/node';

/** The other end of QEMU's `-netdev stream`. Owns its descriptor, a stream socket. What is no such stream ends it. */
export class FrameStream implements Disposable {
  readonly #stream: UnixStream;
  readonly #reader = new FrameStreamReader();
  #onFrame: ((frame: Uint8Array) => void) | undefined;

  constructor(fd: number) {
    this.#stream = UnixStream.fromFd(fd);
    this.#stream.onData((bytes) => {
      const isStream = this.#reader.push(bytes, (all, at, size) =>
        this.#onFrame?.(all.subarray(at, at + size)),
      );
      if (!isStream) this.#stream.close();
    });
  }

  /** At most one handler; frames are valid during the call. Without it they are lost. */
  onFrame(handler: ((frame: Uint8Array) => void) | undefined): void {
    this.#onFrame = handler;
  }

  /** Takes a copy. Throws as `UnixStream.send`. */
  send(frame: Uint8Array): void {
    const bytes = new Uint8Array(FRAME_LENGTH_SIZE + frame.length);
    new DataView(bytes.buffer).setUint32(0, frame.length);
    bytes.set(frame, FRAME_LENGTH_SIZE);
    this.#stream.send(bytes);
  }

  [Symbol.dispose](): void {
    this.#stream.close();
  }
}
