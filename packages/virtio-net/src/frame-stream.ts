/**
 * Ethernet frames on a byte stream as QEMU's `-netdev stream` and passt have them: each behind its length as four bytes, the
 * highest first (QEMU `net/stream.c`, `net/net.c` net_fill_rstate).
 */

export const FRAME_LENGTH_SIZE = 4;
/** QEMU's NET_BUFSIZE: it neither sends nor takes more. */
export const STREAM_FRAME_SIZE_MAX: number = 4096 + 65536;

/** Makes frames of the chunks of a stream, however they are cut. */
export class FrameStreamReader {
  #rest: Uint8Array = new Uint8Array();

  /**
   * Hands over each frame that is complete; it is valid during the call. False when what came is no such stream: a length above
   * the largest frame. Nothing that follows can be understood then.
   */
  push(bytes: Uint8Array, onFrame: (bytes: Uint8Array, at: number, size: number) => void): boolean {
    const all = this.#rest.length === 0 ? bytes : joined(this.#rest, bytes);
    const view = new DataView(all.buffer, all.byteOffset, all.length);
    let at = 0;
    while (at + FRAME_LENGTH_SIZE <= all.length) {
      const size = view.getUint32(at);
      if (size > STREAM_FRAME_SIZE_MAX) return false;
      if (at + FRAME_LENGTH_SIZE + size > all.length) break;
      onFrame(all, at + FRAME_LENGTH_SIZE, size);
      at += FRAME_LENGTH_SIZE + size;
    }
    this.#rest = all.slice(at);
    return true;
  }
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array {
  const all = new Uint8Array(first.length + second.length);
  all.set(first);
  all.set(second, first.length);
  return all;
}
