import * as ctrl from '@virtlab/abi/virtio-net-ctrl';
import type { AioContext } from '@virtlab/aio';
import type { CoherentBuffer } from '@virtlab/guest-memory';
import type { DriverSession } from '@virtlab/virtio';
import { type BufferList, createBufferList } from '@virtlab/vring';
import { NetError } from './errors.ts';

/** Bytes of the memory that requests and answers lie in; the answer is at its end. */
const MEMORY_SIZE = 8192;
const ANSWER_SIZE = 64;
const WORD = 2 ** 32;

/** The driver's end of the control queue: one request at a time, the others wait in order. */
export class ControlRequests {
  readonly #session: DriverSession;
  readonly #queueIndex: number;
  readonly #aio: AioContext;
  readonly #timeoutMs: number;
  readonly #memory: CoherentBuffer;
  readonly #list: BufferList = createBufferList(2);
  #previous: Promise<unknown> = Promise.resolve();
  #pending: PromiseWithResolvers<number> | undefined;
  #failure: NetError | undefined;

  /** @throws DmaError when there is no memory */
  constructor(session: DriverSession, queueIndex: number, aio: AioContext, timeoutMs: number) {
    this.#session = session;
    this.#queueIndex = queueIndex;
    this.#aio = aio;
    this.#timeoutMs = timeoutMs;
    this.#memory = session.link.dma.allocateCoherent(MEMORY_SIZE);
    session.onCall(queueIndex, () => this.#look());
  }

  /** The result, of at most 63 bytes. See `NetControl` for what it rejects with. */
  ask(controlClass: number, command: number, data: Uint8Array, resultSize: number): Promise<Uint8Array> {
    const turn = this.#previous.then(() => this.#ask(controlClass, command, data, resultSize));
    this.#previous = turn.catch(() => undefined);
    return turn;
  }

  fail(reason: string): void {
    this.#failure ??= new NetError('ENODEV', reason);
    this.#pending?.reject(this.#failure);
  }

  /** Only when the device does not use it any more. */
  release(): void {
    this.#session.link.dma.freeCoherent(this.#memory);
  }

  async #ask(
    controlClass: number,
    command: number,
    data: Uint8Array,
    resultSize: number,
  ): Promise<Uint8Array> {
    if (this.#failure !== undefined) throw this.#failure;
    const { VIRTIO_NET_CTRL_HDR: HEADER, VIRTIO_NET_CTRL_ACK_SIZE: ACK_SIZE } = ctrl;
    const size = HEADER.size + data.length;
    if (size > MEMORY_SIZE - ANSWER_SIZE)
      throw new NetError('EINVAL', `a request of ${size} bytes is too long`);
    const { offset } = this.#memory;
    const { u8 } = this.#session.link.dma.memory;
    const answerAt = offset + MEMORY_SIZE - ANSWER_SIZE;
    u8[offset + HEADER.offset.class] = controlClass;
    u8[offset + HEADER.offset.command] = command;
    u8.set(data, offset + HEADER.size);
    u8.fill(ctrl.VIRTIO_NET_ERR, answerAt, answerAt + ANSWER_SIZE);
    this.#put(size, ACK_SIZE + resultSize);
    const usedSize = await this.#answer(controlClass, command);
    const answer = u8.slice(answerAt, answerAt + ACK_SIZE + resultSize);
    if (usedSize < ACK_SIZE || answer[0] !== ctrl.VIRTIO_NET_OK) {
      throw new NetError('EINVAL', `the device refuses command ${command} of class ${controlClass}`);
    }
    if (usedSize < answer.length) throw new NetError('EPROTO', `an answer of ${usedSize} bytes is too short`);
    return answer.slice(ACK_SIZE);
  }

  #put(size: number, answerSize: number): void {
    const { addressLow, addressHigh } = this.#memory;
    const answerLow = addressLow + MEMORY_SIZE - ANSWER_SIZE;
    this.#list.clear();
    this.#list.addCoherentReadable(addressLow, addressHigh, size);
    this.#list.addCoherentWritable(answerLow % WORD, addressHigh + (answerLow >= WORD ? 1 : 0), answerSize);
    if (this.#session.queues[this.#queueIndex]!.add(this.#list, 0) !== 0) {
      throw new NetError('ENODEV', 'the control queue takes no request');
    }
    this.#session.kick(this.#queueIndex);
  }

  /** A device that does not answer may do so at any time later, so the memory is not used again. */
  async #answer(controlClass: number, command: number): Promise<number> {
    const pending = Promise.withResolvers<number>();
    this.#pending = pending;
    const timer = this.#aio.createTimer(() => {
      const what = `command ${command} of class ${controlClass} was not answered in ${this.#timeoutMs} ms`;
      this.#failure ??= new NetError('ETIMEDOUT', what);
      pending.reject(this.#failure);
    });
    timer.arm(this.#timeoutMs);
    try {
      return await pending.promise;
    } finally {
      timer[Symbol.dispose]();
      this.#pending = undefined;
    }
  }

  #look(): void {
    const queue = this.#session.queues[this.#queueIndex]!;
    for (let token = queue.popUsed(); token >= 0; token = queue.popUsed())
      this.#pending?.resolve(queue.usedSize);
  }
}
