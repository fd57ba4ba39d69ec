import type { DomId } from '@virtlab/abi/brands';
import type { AioContext } from '@virtlab/aio';
import { NodeAioContext, createSharedDoorbell } from '@virtlab/aio/node';
import { type MemoryRegion, memoryRegion } from '@virtlab/guest-memory';
import { EventFd, type SharedMapping, UnixStream, closeFd, mapShared } from '@virtlab/linux';
import type { ForeignDomain, HypervisorConnection } from '../connection.ts';
import {
  DEVICE_MODEL_ALIVE,
  DEVICE_MODEL_STATE_MASK,
  type DomainMemory,
  XEN_PAGES,
  XEN_PAGES_SIZE,
} from '../domain-memory.ts';
import { HypercallError, isHypercallCode } from '../errors.ts';
import type {
  DomainProgram,
  HypercallOp,
  HypercallResult,
  Hypercalls,
  MapAccess,
  StartInfo,
} from '../hypercalls.ts';
import {
  FRAME_ANSWER,
  FRAME_CALL,
  FRAME_GONE,
  FRAME_REQUEST,
  FRAME_RESULT,
  FRAME_START,
  HYPERVISOR_FD,
  type StartRecord,
} from './frames.ts';
import { MessageStream } from './message-stream.ts';
import { ringDoorbell } from './shared-resources.ts';

/**
 * Connects a domain process to the hypervisor that started it; resolves when the start record arrived. Takes ownership of the
 * descriptor.
 */
export function connectHypervisor(fd: number = HYPERVISOR_FD): Promise<HypervisorConnection> {
  return new Promise((resolve, reject) => {
    const connection: ProcessConnection = new ProcessConnection(
      UnixStream.fromFd(fd),
      () => resolve(connection),
      reject,
    );
  });
}

interface PendingCall {
  readonly op: HypercallOp;
  readonly resolve: (value: unknown, fds: number[]) => void;
  readonly reject: (error: HypercallError) => void;
}

class ProcessConnection implements HypervisorConnection {
  readonly #stream: MessageStream;
  readonly #pending = new Map<number, PendingCall>();
  readonly #foreign = new Map<DomId, ForeignMapping>();
  readonly #mapping = new Map<string, Promise<ForeignDomain>>();
  readonly #goneHandlers = new Set<(domain: DomId) => void>();
  readonly #started: () => void;
  readonly #failed: (error: HypercallError) => void;
  #start: StartRecord | undefined;
  #memory: (DomainMemory & { readonly ram: MemoryRegion }) | undefined;
  #doorbell: EventFd | undefined;
  #onRequest: ((message: unknown) => unknown) | undefined;
  #onClose: ((reason: string) => void) | undefined;
  #closed: string | undefined;
  #nextId = 1;

  constructor(stream: UnixStream, started: () => void, failed: (error: HypercallError) => void) {
    this.#started = started;
    this.#failed = failed;
    this.#stream = new MessageStream(stream, {
      onMessage: (message, fds) => this.#onMessage(message as readonly unknown[], fds),
      onEnd: (reason) => this.#onEnd(reason),
    });
  }

  get domain(): DomId {
    return this.#record.domain;
  }

  get memory(): DomainMemory & { readonly ram: MemoryRegion } {
    if (this.#memory === undefined) throw new TypeError('The domain has not started');
    return this.#memory;
  }

  get program(): DomainProgram {
    return this.#record.program;
  }

  get startInfo(): StartInfo {
    return this.#record.startInfo;
  }

  get #record(): StartRecord {
    if (this.#start === undefined) throw new TypeError('The domain has not started');
    return this.#start;
  }

  call<Op extends HypercallOp>(op: Op, ...args: Parameters<Hypercalls[Op]>): Promise<HypercallResult<Op>> {
    return this.#call(op, args, (value) => value as HypercallResult<Op>);
  }

  async mapDomain(domain: DomId, access: MapAccess): Promise<ForeignDomain> {
    const held = this.foreign(domain, access);
    if (held !== undefined) return held;
    const key = `${domain} ${access}`;
    const pending =
      this.#mapping.get(key) ?? this.#map(domain, access).finally(() => this.#mapping.delete(key));
    this.#mapping.set(key, pending);
    return await pending;
  }

  foreign(domain: DomId, access: MapAccess): ForeignDomain | undefined {
    const held = this.#foreign.get(domain);
    return access === 'memory' && held?.memory.ram === undefined ? undefined : held;
  }

  async unmapDomain(domain: DomId): Promise<void> {
    const held = this.#foreign.get(domain);
    if (held === undefined) return;
    this.#foreign.delete(domain);
    held.close();
    await this.call('unmap_domain', domain);
  }

  attachDoorbell(aio: AioContext, poll: () => boolean): Disposable {
    const doorbell = createSharedDoorbell({
      words: this.memory.xen.i32,
      notifyMeIndex: XEN_PAGES.doorbell / 4,
      eventFd: this.#doorbell!,
    });
    return doorbell.receive(nodeContext(aio), poll);
  }

  async serveTraps(domain: DomId): Promise<void> {
    await this.call('ioreq_server_create', domain);
  }

  trap(aio: AioContext, deviceModel: ForeignDomain, done: () => boolean, timeoutMs: number): boolean {
    const context = nodeContext(aio);
    const state = this.memory.xen.i32;
    const isAlive = (): boolean =>
      (Atomics.load(state, XEN_PAGES.deviceModelState / 4) & DEVICE_MODEL_STATE_MASK) === DEVICE_MODEL_ALIVE;
    deviceModel.ring();
    context.runUntil(() => done() || !isAlive(), timeoutMs);
    return done();
  }

  onDomainGone(handler: (domain: DomId) => void): Disposable {
    this.#goneHandlers.add(handler);
    return { [Symbol.dispose]: () => void this.#goneHandlers.delete(handler) };
  }

  onRequest(handler: ((message: unknown) => unknown) | undefined): void {
    this.#onRequest = handler;
  }

  onClose(handler: (reason: string) => void): void {
    this.#onClose = handler;
  }

  close(): void {
    this.#stream.close();
  }

  #call<T>(
    op: HypercallOp,
    args: readonly unknown[],
    finish: (value: unknown, fds: number[]) => T,
  ): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (this.#closed !== undefined) return reject(new HypercallError('ECONNRESET', op, this.#closed));
      const id = this.#nextId;
      this.#nextId += 1;
      this.#pending.set(id, {
        op,
        reject,
        resolve: (value, fds) => {
          try {
            resolve(finish(value, fds));
          } catch (error) {
            reject(error);
          }
        },
      });
      try {
        this.#stream.send([FRAME_CALL, id, op, ...args]);
      } catch (error) {
        this.#pending.delete(id);
        const code = error instanceof RangeError ? 'E2BIG' : 'EAGAIN'; // the hypervisor is behind, or about to be gone
        reject(new HypercallError(code, op, error instanceof Error ? error.message : String(error)));
      }
    });
  }

  #map(domain: DomId, access: MapAccess): Promise<ForeignDomain> {
    return this.#call('map_domain', [domain, access], (value, fds) => {
      const { ramSize } = value as { ramSize: number };
      const held = this.#foreign.get(domain);
      const foreign = new ForeignMapping(domain, takeMapping(fds, access, ramSize), held);
      this.#foreign.set(domain, foreign);
      return foreign;
    });
  }

  #onMessage(message: readonly unknown[], fds: number[]): void {
    const [kind, first, second, third] = message;
    switch (kind) {
      case FRAME_START:
        return this.#begin(first as StartRecord, fds);
      case FRAME_RESULT:
        return this.#finish(first as number, second, third, fds);
      case FRAME_GONE:
        return this.#domainGone(first as DomId);
      case FRAME_REQUEST:
        return void this.#serve(first as number, second);
      default:
        throw new TypeError(`The hypervisor sent a message of kind ${String(kind)}`);
    }
  }

  #begin(record: StartRecord, fds: number[]): void {
    const [ramFd, xenFd, doorbellFd] = fds.splice(0, 3);
    this.#start = record;
    this.#memory = {
      ram: memoryRegion(takeShared(ramFd!, record.ramSize).buffer),
      xen: memoryRegion(takeShared(xenFd!, XEN_PAGES_SIZE).buffer),
    };
    this.#doorbell = EventFd.fromFd(doorbellFd!);
    this.#started();
  }

  #finish(id: number, code: unknown, value: unknown, fds: number[]): void {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    if (pending === undefined) return;
    if (code === null) return pending.resolve(value, fds);
    const known = isHypercallCode(code) ? code : 'EIO';
    const text = String(value);
    const prefix = `${known}: ${pending.op}: `;
    pending.reject(
      new HypercallError(known, pending.op, text.startsWith(prefix) ? text.slice(prefix.length) : text),
    );
  }

  #domainGone(domain: DomId): void {
    const held = this.#foreign.get(domain);
    if (held === undefined) return;
    this.#foreign.delete(domain);
    for (const handler of this.#goneHandlers) handler(domain);
    held.close();
  }

  async #serve(id: number, message: unknown): Promise<void> {
    let answer: readonly unknown[];
    try {
      if (this.#onRequest === undefined) throw new TypeError(`Domain ${this.domain} takes no requests`);
      answer = [null, (await this.#onRequest(message)) ?? null];
    } catch (error) {
      answer = [error instanceof Error ? error.message : String(error), null];
    }
    if (this.#closed !== undefined) return;
    try {
      this.#stream.send([FRAME_ANSWER, id, ...answer]);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      this.#stream.send([FRAME_ANSWER, id, `The answer is too large: ${error.message}`, null]);
    }
  }

  #onEnd(reason: string): void {
    this.#closed = reason;
    for (const { op, reject } of this.#pending.values()) reject(new HypercallError('ECONNRESET', op, reason));
    this.#pending.clear();
    if (this.#start === undefined) this.#failed(new HypercallError('ECONNRESET', 'start', reason));
    this.#onClose?.(reason);
  }
}

/** A domain that is a process sleeps in the kernel, and only this context can be woken from there. */
function nodeContext(aio: AioContext): NodeAioContext {
  if (aio instanceof NodeAioContext) return aio;
  throw new TypeError('A domain process needs the context of @virtlab/aio/node');
}

interface Mapping {
  readonly xen: SharedMapping;
  readonly ram: SharedMapping | undefined;
  readonly doorbell: EventFd;
}

/** A peer's pages here. Pages of a dead peer are not revoked: data-plane code may still be looking at them; they are garbage. */
class ForeignMapping implements ForeignDomain {
  readonly domain: DomId;
  readonly memory: DomainMemory;
  readonly #doorbell: EventFd;
  readonly #before: ForeignMapping | undefined;
  #open = true;

  constructor(domain: DomId, mapping: Mapping, before: ForeignMapping | undefined) {
    this.domain = domain;
    this.#before = before; // somebody may still ring by it
    this.#doorbell = mapping.doorbell;
    const ram = mapping.ram && memoryRegion(mapping.ram.buffer);
    this.memory = { xen: memoryRegion(mapping.xen.buffer), ram: ram ?? before?.memory.ram };
  }

  ring(): void {
    if (this.#open) ringDoorbell(this.memory, this.#doorbell);
  }

  close(): void {
    this.#open = false;
    this.#doorbell.close();
    this.#before?.close();
  }
}

function takeMapping(fds: number[], access: MapAccess, ramSize: number): Mapping {
  const [xenFd, doorbellFd, ramFd] = fds.splice(0, access === 'memory' ? 3 : 2);
  return {
    xen: takeShared(xenFd!, XEN_PAGES_SIZE),
    doorbell: EventFd.fromFd(doorbellFd!),
    ram: ramFd === undefined ? undefined : takeShared(ramFd, ramSize),
  };
}

function takeShared(fd: number, size: number): SharedMapping {
  try {
    return mapShared(fd, size);
  } finally {
    closeFd(fd);
  }
}
