/** A device's process as a test wants it: answers as told, right or wrong, and remembers what it was told. */
import { VHOST_USER, VHOST_USER_F_PROTOCOL_FEATURES, VHOST_USER_PROTOCOL_F } from '@virtlab/abi/vhost-user';
import type { VhostUserProtocolFeature, VhostUserRequest } from '@virtlab/abi/vhost-user';
import { VIRTIO_F_VERSION_1, featureBit } from '@virtlab/abi/virtio';
import { EventFd, UnixStream, closeFd, memfdCreate, socketPair } from '@virtlab/linux';
import { type Frame, FrameReader, encodeFrame } from '../frame-reader.ts';
import { type MessageShape, REQUESTS } from '../messages.ts';
import { U64 } from '../payload-codec.ts';

export interface ScriptedDeviceOptions {
  readonly features?: bigint;
  readonly protocolFeatures?: readonly VhostUserProtocolFeature[];
  readonly queueCount?: bigint;
  readonly config?: Uint8Array;
}

/** What the device makes of a request: the bytes of its reply, or undefined for none. */
export type Script = (frame: Frame, usual: Uint8Array | undefined) => Uint8Array | undefined;

const CONTEXT = { queueCount: 256, hasXenMmap: false };
const INFLIGHT_SIZE = 4096;

/** Names by number. */
const NAMES = new Map<number, VhostUserRequest>(
  (Object.entries(VHOST_USER) as [VhostUserRequest, number][]).map(([name, id]) => [id, name]),
);

export class ScriptedVhostUserDevice implements Disposable {
  /** The driver's end: give it to `connectVhostUser`. */
  readonly driverFd: number;
  /** Requests so far, in order. */
  readonly names: VhostUserRequest[] = [];
  readonly payloads: Map<VhostUserRequest, unknown> = new Map();
  status = 0;
  /** By request: in place of the usual answer. */
  readonly scripts: Map<VhostUserRequest, Script> = new Map();
  /** Of queue 0. */
  kick: EventFd | undefined;
  call: EventFd | undefined;
  error: EventFd | undefined;
  back: UnixStream | undefined;
  readonly stream: UnixStream;
  readonly #options: ScriptedDeviceOptions;
  readonly #reader: FrameReader;
  #inflightFd: number | undefined;

  constructor(options: ScriptedDeviceOptions = {}) {
    const [ours, theirs] = socketPair();
    this.driverFd = theirs;
    this.#options = options;
    this.stream = UnixStream.fromFd(ours);
    const needsFds = (request: number, bytes: Uint8Array): boolean => {
      const shape = REQUESTS[NAMES.get(request)!] as MessageShape<unknown, unknown>;
      const payload = shape.payload.decode(bytes, CONTEXT);
      return payload.ok && shape.fds(payload.value).min > 0;
    };
    this.#reader = new FrameReader({ needsFds, onFrame: (frame) => this.#answer(frame) });
    this.stream.onData((bytes, fds) => void this.#reader.push(bytes, fds));
    this.stream.onClose(() => {});
  }

  /** Sends a message as the device, on the main channel or, with `back`, the other. */
  send(stream: UnixStream, request: number, payload: Uint8Array, isReply: boolean): void {
    stream.send(encodeFrame(request, payload, { isReply }));
  }

  /** The names since the last time. */
  takeNames(): VhostUserRequest[] {
    return this.names.splice(0);
  }

  [Symbol.dispose](): void {
    this.stream.close();
    this.back?.close();
    this.#reader[Symbol.dispose]();
    for (const doorbell of [this.kick, this.call, this.error]) doorbell?.close();
    if (this.#inflightFd !== undefined) closeFd(this.#inflightFd);
  }

  #answer(frame: Frame): void {
    const name = NAMES.get(frame.request)!;
    this.names.push(name);
    const payload = REQUESTS[name].payload.decode(frame.payload, CONTEXT);
    this.payloads.set(name, payload.ok ? payload.value : payload.fault);
    this.#keepFds(name, frame.fds);
    const usual = this.#usual(name, payload.ok ? payload.value : undefined);
    const fallback = usual ?? (frame.needsReply ? U64.encode(0n, CONTEXT) : undefined);
    const script = this.scripts.get(name);
    const reply = script === undefined ? fallback : script(frame, fallback);
    if (reply === undefined || this.stream.closed) return;
    const fds =
      name === 'GET_INFLIGHT_FD' ? [(this.#inflightFd ??= memfdCreate('inflight', INFLIGHT_SIZE))] : [];
    this.stream.send(encodeFrame(frame.request, reply, { isReply: true }), fds);
  }

  #usual(name: VhostUserRequest, payload: unknown): Uint8Array | undefined {
    const {
      features = featureBit(VIRTIO_F_VERSION_1),
      protocolFeatures,
      queueCount = 1n,
      config,
    } = this.#options;
    const own = protocolFeatures === undefined ? 0n : featureBit(VHOST_USER_F_PROTOCOL_FEATURES);
    switch (name) {
      case 'GET_FEATURES':
        return U64.encode(features | own, CONTEXT);
      case 'GET_PROTOCOL_FEATURES':
        return U64.encode(
          (protocolFeatures ?? []).reduce(
            (bits, feature) => bits | featureBit(VHOST_USER_PROTOCOL_F[feature]),
            0n,
          ),
          CONTEXT,
        );
      case 'GET_QUEUE_NUM':
        return U64.encode(queueCount, CONTEXT);
      case 'GET_MAX_MEM_SLOTS':
        return U64.encode(8n, CONTEXT);
      case 'SET_STATUS':
        this.status = Number(payload);
        return undefined;
      case 'GET_STATUS':
        return U64.encode(BigInt(this.status), CONTEXT);
      case 'GET_VRING_BASE':
        return REQUESTS.GET_VRING_BASE.payload.encode(payload as never, CONTEXT);
      case 'GET_INFLIGHT_FD': {
        const wanted = payload as { readonly queueCount: number; readonly queueSize: number };
        return REQUESTS.GET_INFLIGHT_FD.payload.encode(
          { ...wanted, size: BigInt(INFLIGHT_SIZE), offset: 0n },
          CONTEXT,
        );
      }
      case 'GET_CONFIG': {
        const wanted = payload as { readonly offset: number; readonly bytes: Uint8Array };
        const bytes = (config ?? new Uint8Array(0)).slice(wanted.offset, wanted.offset + wanted.bytes.length);
        if (bytes.length < wanted.bytes.length) return new Uint8Array(0);
        return REQUESTS.GET_CONFIG.payload.encode(
          { offset: wanted.offset, bytes, isMigration: false },
          CONTEXT,
        );
      }
      default:
        return undefined;
    }
  }

  #keepFds(name: VhostUserRequest, fds: readonly number[]): void {
    const [fd, ...more] = fds;
    if (fd === undefined) return;
    for (const each of more) closeFd(each);
    if (name === 'SET_BACKEND_REQ_FD') this.back = UnixStream.fromFd(fd);
    else if (name === 'SET_VRING_KICK' && this.kick === undefined) this.kick = EventFd.fromFd(fd);
    else if (name === 'SET_VRING_CALL' && this.call === undefined) this.call = EventFd.fromFd(fd);
    else if (name === 'SET_VRING_ERR' && this.error === undefined) this.error = EventFd.fromFd(fd);
    else closeFd(fd);
  }
}
