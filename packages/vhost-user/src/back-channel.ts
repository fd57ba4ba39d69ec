/** What the device's side says on its own ("Back-end message types"): on a socket that came with SET_BACKEND_REQ_FD. */
import { UnixStream, closeFd } from '@virtlab/linux';
import type { MessageFds } from './connection.ts';
import { type Outcome, bad, good } from './fault.ts';
import { BACKEND_REQUESTS, type BackendReplyPayloads, type BackendRequestPayloads } from './messages.ts';
import { isSocket } from './node/descriptor-kind.ts';
import type { DecodeContext } from './payload-codec.ts';
import { RequestSender } from './request-sender.ts';

/** In-band doorbells wait for their acknowledgement, so that a slow peer has one of each ring at most in its socket. */
export class BackChannel implements Disposable {
  readonly #sender: RequestSender<BackendRequestPayloads, BackendReplyPayloads>;
  /** Rings whose call was not acknowledged; true when they are owed another. */
  readonly #calling = new Map<number, boolean>();

  private constructor(stream: UnixStream, decodeContext: () => DecodeContext) {
    this.#sender = new RequestSender({ stream, table: BACKEND_REQUESTS, decodeContext, onEnd: () => {} });
  }

  static from(fds: MessageFds, decodeContext: () => DecodeContext): Outcome<BackChannel> {
    const fd = fds.take();
    if (fd === undefined) return bad('BAD_FDS', 'no descriptor came along');
    if (isSocket(fd)) return good(new BackChannel(UnixStream.fromFd(fd, { fdsMax: 0 }), decodeContext));
    closeFd(fd);
    return bad('BAD_FDS', 'the descriptor is no socket');
  }

  /** False when it could not be sent. */
  configChanged(): boolean {
    return this.#sender.post('CONFIG_CHANGE_MSG', undefined) === undefined;
  }

  call(index: number): void {
    if (this.#calling.has(index)) this.#calling.set(index, true);
    else void this.#call(index);
  }

  error(index: number): void {
    void this.#sender.request('VRING_ERR', { index, num: 0 });
  }

  async #call(index: number): Promise<void> {
    do {
      this.#calling.set(index, false);
      const called = await this.#sender.request('VRING_CALL', { index, num: 0 });
      if (!called.ok) break;
    } while (this.#calling.get(index) === true);
    this.#calling.delete(index);
  }

  [Symbol.dispose](): void {
    this.#sender.close();
  }
}
