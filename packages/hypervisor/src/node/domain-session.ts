import type { DomId } from '@virtlab/abi/brands';
import type { UnixStream } from '@virtlab/linux';
import { HypercallError } from '../errors.ts';
import type { DomainProgram, MapAccess, ShutdownReason, StartInfo } from '../hypercalls.ts';
import type { Hypervisor } from '../hypervisor.ts';
import {
  FRAME_ANSWER,
  FRAME_CALL,
  FRAME_GONE,
  FRAME_REQUEST,
  FRAME_RESULT,
  FRAME_START,
  type StartRecord,
} from './frames.ts';
import { MessageStream } from './message-stream.ts';
import type { SharedResources } from './shared-resources.ts';

export interface DomainSessionOptions {
  readonly hypervisor: Hypervisor;
  readonly domain: DomId;
  readonly start: { readonly program: DomainProgram; readonly startInfo: StartInfo };
  resourcesOf(domain: DomId): SharedResources | undefined;
  /** The process ended its connection, or broke the protocol (`crash`). */
  onEnd(reason: ShutdownReason, detail: string): void;
}

/** The hypervisor's end of one domain process: executes its hypercalls. What comes from the process is not trusted. */
export class DomainSession {
  readonly #options: DomainSessionOptions;
  readonly #stream: MessageStream;
  readonly #requests = new Map<number, PromiseWithResolvers<unknown>>();
  readonly #gone: Disposable;
  readonly #mapped = new Set<DomId>();
  #nextRequest = 1;
  #closed = false;

  constructor(stream: UnixStream, options: DomainSessionOptions) {
    this.#options = options;
    this.#stream = new MessageStream(stream, {
      onMessage: (message) => this.#onMessage(message),
      onEnd: (reason) => this.#onEnd('crash', `It lost its hypervisor connection: ${reason}`),
    });
    this.#gone = options.hypervisor.onDomainGone((domain) => {
      if (domain !== options.domain && this.#mapped.delete(domain)) this.#send([FRAME_GONE, domain]);
    });
    const own = options.resourcesOf(options.domain)!;
    const record: StartRecord = { domain: options.domain, ramSize: own.memory.ram.size, ...options.start };
    this.#send([FRAME_START, record], [own.ramFd, own.xenFd, own.doorbellFd]);
  }

  request(message: unknown): Promise<unknown> {
    const pending = Promise.withResolvers<unknown>();
    const id = this.#nextRequest;
    this.#nextRequest += 1;
    this.#requests.set(id, pending);
    this.#send([FRAME_REQUEST, id, message]);
    return pending.promise;
  }

  close(): void {
    this.#closed = true;
    this.#stream.close();
    this.#release('The domain ended');
  }

  #onMessage(message: unknown): void {
    if (!Array.isArray(message)) return this.#violate('A message is not an array');
    const [kind, id, third, ...rest] = message as unknown[];
    if (typeof id !== 'number') return this.#violate('A message has no id');
    if (kind === FRAME_CALL && typeof third === 'string') return this.#execute(id, third, rest);
    if (kind === FRAME_ANSWER) return this.#answer(id, third, rest[0]);
    this.#violate(`A message of kind ${String(kind)}`);
  }

  #execute(id: number, op: string, args: readonly unknown[]): void {
    const { hypervisor, domain } = this.#options;
    try {
      const value = hypervisor.hypercall(domain, op, args);
      this.#send([FRAME_RESULT, id, null, value], op === 'map_domain' ? this.#mapFds(args) : []);
    } catch (error) {
      if (!(error instanceof HypercallError)) throw error;
      this.#send([FRAME_RESULT, id, error.code, error.message]);
    }
  }

  #mapFds([domain, access]: readonly unknown[]): number[] {
    this.#mapped.add(domain as DomId);
    const { xenFd, doorbellFd, ramFd } = this.#options.resourcesOf(domain as DomId)!;
    return (access as MapAccess) === 'memory' ? [xenFd, doorbellFd, ramFd] : [xenFd, doorbellFd];
  }

  #answer(id: number, error: unknown, value: unknown): void {
    const pending = this.#requests.get(id);
    this.#requests.delete(id);
    if (error === null) pending?.resolve(value);
    else pending?.reject(new HypercallError('EIO', 'request', String(error)));
  }

  #violate(what: string): void {
    this.#onEnd('crash', `It broke the hypercall protocol: ${what}`);
  }

  #onEnd(reason: ShutdownReason, detail: string): void {
    if (this.#closed) return;
    this.close();
    this.#options.onEnd(reason, detail);
  }

  #release(reason: string): void {
    this.#gone[Symbol.dispose]();
    for (const { reject } of this.#requests.values())
      reject(new HypercallError('ECONNRESET', 'request', reason));
    this.#requests.clear();
  }

  #send(message: unknown, fds: readonly number[] = []): void {
    if (this.#closed) return;
    try {
      this.#stream.send(message, fds);
    } catch (error) {
      this.#onEnd(
        'crash',
        `It does not take messages: ${error instanceof Error ? error.message : 'unknown'}`,
      );
    }
  }
}
