import { VIRTIO_BLK_S_OK } from '@virtlab/abi/virtio-blk';
import type { BackendCompletion } from './backend.ts';

interface ControlOperation {
  pendingCount: number;
  status: number;
  /** The last step; it ends by calling `done` with the status. */
  readonly finish: (done: (status: number) => void) => void;
}

/**
 * Operations of a backend that are several of the backend below it, under one token: they end when all of those have, and
 * after a last step. Everything else passes through. For what is rare: flushes and resets.
 */
export class ControlOperations {
  readonly #operations = new Map<number, ControlOperation>();
  #completion: BackendCompletion | undefined;
  #drained: PromiseWithResolvers<void> | undefined;

  onComplete(completion: BackendCompletion | undefined): void {
    this.#completion = completion;
  }

  /** `pendingCount` operations under the token are on their way below; with none, the last step comes at once. */
  begin(token: number, pendingCount: number, finish: ControlOperation['finish']): void {
    const operation = { pendingCount, status: VIRTIO_BLK_S_OK as number, finish };
    this.#operations.set(token, operation);
    if (pendingCount === 0) this.#finish(token, operation);
  }

  /** What the backend below reports. */
  readonly operationEnded = (token: number, status: number): void => {
    const operation = this.#operations.get(token);
    if (operation === undefined) {
      this.#completion?.(token, status);
      return;
    }
    if (operation.status === VIRTIO_BLK_S_OK) operation.status = status;
    operation.pendingCount -= 1;
    if (operation.pendingCount === 0) this.#finish(token, operation);
  };

  async drain(): Promise<void> {
    if (this.#operations.size === 0) return;
    this.#drained ??= Promise.withResolvers<void>();
    await this.#drained.promise;
  }

  #finish(token: number, operation: ControlOperation): void {
    if (operation.status === VIRTIO_BLK_S_OK) operation.finish((status) => this.#end(token, status));
    else this.#end(token, operation.status);
  }

  #end(token: number, status: number): void {
    this.#operations.delete(token);
    this.#completion?.(token, status);
    if (this.#operations.size > 0) return;
    this.#drained?.resolve();
    this.#drained = undefined;
  }
}
