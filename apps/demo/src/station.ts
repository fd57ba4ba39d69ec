import type { AioContext } from '@virtlab/aio';
import {
  type ParsedFrame,
  type Station,
  UDP_PAYLOAD_OFFSET,
  buildArpReply,
  buildArpRequest,
  buildEchoReply,
  buildEchoRequest,
  buildUdp,
  isArpRequest,
  isEchoRequest,
  parseFrame,
} from './packets.ts';

/** A wire: a virtio-net driver in a domU, a switch port in domain 0. */
export interface FramePort {
  /** Takes a frame now, copying it; false when there is no room, and `onWritable` follows. */
  send(frame: Uint8Array): boolean;
  /** After a batch of sends. */
  kick(): void;
  /** The frame is valid during the call. */
  onFrame(handler: (frame: Uint8Array) => void): void;
  onWritable(handler: () => void): void;
}

export interface PingResult {
  readonly sent: number;
  readonly received: number;
  /** Microseconds. */
  readonly rttMin: number;
  readonly rttMedian: number;
  readonly rttMax: number;
}

export interface UdpCount {
  readonly datagrams: number;
  readonly bytes: number;
  /** Datagrams whose sequence number was not the one after the last. */
  readonly outOfOrder: number;
}

const FRAME_SIZE_MAX = 65_550;
const REPLY_TIMEOUT_MS = 1000;
const ARP_TRIES = 3;
const BATCH_COUNT = 32;

/** One host on a wire: answers ARP and ICMP echo, counts UDP, and can ask others. */
export class NetworkStation {
  readonly station: Station;
  readonly #aio: AioContext;
  readonly #port: FramePort;
  readonly #frame = new Uint8Array(FRAME_SIZE_MAX);
  readonly #neighbours = new Map<string, Station>();
  readonly #waiting = new Map<string, () => void>();
  #udp = { datagrams: 0, bytes: 0, outOfOrder: 0, next: 0 };
  #writable: (() => void) | undefined;

  constructor(aio: AioContext, port: FramePort, station: Station) {
    this.#aio = aio;
    this.#port = port;
    this.station = station;
    port.onFrame((frame) => this.#receive(frame, parseFrame(frame)));
    port.onWritable(() => {
      const writable = this.#writable;
      this.#writable = undefined;
      writable?.();
    });
  }

  /** Who has this address. Throws when nobody answers. */
  async resolve(ip: string): Promise<Station> {
    for (let attempt = 0; attempt < ARP_TRIES; attempt += 1) {
      const known = this.#neighbours.get(ip);
      if (known !== undefined) return known;
      this.#send(buildArpRequest(this.#frame, this.station, parseIp(ip)));
      await this.#wait(`arp ${ip}`);
    }
    const known = this.#neighbours.get(ip);
    if (known === undefined) throw new Error(`${formatIp(this.station.ip)}: no ARP reply from ${ip}`);
    return known;
  }

  async ping(ip: string, count: number, size: number): Promise<PingResult> {
    const to = await this.resolve(ip);
    const times: number[] = [];
    for (let sequence = 0; sequence < count; sequence += 1) {
      const start = this.#aio.now();
      this.#send(buildEchoRequest(this.#frame, this.station, to, 1, sequence, size));
      if (await this.#wait(`echo ${ip} ${sequence}`)) times.push((this.#aio.now() - start) * 1000);
    }
    const sorted = times.toSorted((a, b) => a - b);
    return {
      sent: count,
      received: times.length,
      rttMin: sorted[0] ?? Number.NaN,
      rttMedian: sorted[sorted.length >> 1] ?? Number.NaN,
      rttMax: sorted.at(-1) ?? Number.NaN,
    };
  }

  /** Sends numbered datagrams of `size` payload bytes for `durationMs`; answers how many the wire took. */
  async blast(ip: string, port: number, size: number, durationMs: number): Promise<number> {
    const to = await this.resolve(ip);
    const payload = new DataView(this.#frame.buffer, UDP_PAYLOAD_OFFSET, size);
    const end = this.#aio.now() + durationMs;
    let sequence = 0;
    while (this.#aio.now() < end) {
      let room = true;
      for (let batch = 0; batch < BATCH_COUNT && room; batch += 1) {
        payload.setUint32(0, sequence);
        const frameSize = buildUdp(this.#frame, this.station, to, { source: port, destination: port }, size);
        room = this.#port.send(this.#frame.subarray(0, frameSize));
        if (room) sequence += 1;
      }
      this.#port.kick();
      if (!room) await new Promise<void>((resolve) => (this.#writable = resolve));
    }
    return sequence;
  }

  /** What arrived by UDP since the last call. */
  takeUdpCount(): UdpCount {
    const { datagrams, bytes, outOfOrder } = this.#udp;
    this.#udp = { datagrams: 0, bytes: 0, outOfOrder: 0, next: 0 };
    return { datagrams, bytes, outOfOrder };
  }

  #receive(frame: Uint8Array, parsed: ParsedFrame): void {
    switch (parsed.kind) {
      case 'arp':
        this.#neighbours.set(formatIp(parsed.sender.ip), parsed.sender);
        this.#wake(`arp ${formatIp(parsed.sender.ip)}`);
        if (isArpRequest(parsed.operation) && sameBytes(parsed.targetIp, this.station.ip)) {
          this.#send(buildArpReply(this.#frame, this.station, parsed.sender));
        }
        return;
      case 'icmp':
        if (isEchoRequest(parsed.type)) {
          const { source, id, sequence } = parsed;
          this.#send(buildEchoReply(this.#frame, this.station, source, frame, id, sequence));
        } else {
          this.#wake(`echo ${formatIp(parsed.source.ip)} ${parsed.sequence}`);
        }
        return;
      case 'udp': {
        const { payload } = parsed;
        const sequence =
          payload.length < 4 ? -1 : new DataView(payload.buffer, payload.byteOffset).getUint32(0);
        if (sequence !== this.#udp.next) this.#udp.outOfOrder += 1;
        this.#udp.next = sequence + 1;
        this.#udp.datagrams += 1;
        this.#udp.bytes += payload.length;
        return;
      }
      case 'other':
        return;
    }
  }

  #send(size: number): void {
    this.#port.send(this.#frame.subarray(0, size)); // no room: lost, as on any wire
    this.#port.kick();
  }

  /** True when woken, false when the time is over. */
  async #wait(key: string): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const timer = this.#aio.createTimer(() => resolve(false));
    timer.arm(REPLY_TIMEOUT_MS);
    this.#waiting.set(key, () => resolve(true));
    const woken = await promise;
    this.#waiting.delete(key);
    timer[Symbol.dispose]();
    return woken;
  }

  #wake(key: string): void {
    this.#waiting.get(key)?.();
  }
}

export function parseIp(text: string): Uint8Array {
  return Uint8Array.from(text.split('.'), Number);
}

export function parseMac(text: string): Uint8Array {
  return Uint8Array.from(text.split(':'), (byte) => Number.parseInt(byte, 16));
}

export function formatIp(ip: Uint8Array): string {
  return ip.join('.');
}

export function formatMac(mac: Uint8Array): string {
  return Array.from(mac, (byte) => byte.toString(16).padStart(2, '0')).join(':');
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}
