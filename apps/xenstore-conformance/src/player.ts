import { setTimeout as pass } from 'node:timers/promises';
import { XS_ERROR, XS_GET_DOMAIN_PATH, XS_INTRODUCE, XS_RELEASE } from '@virtlab/abi/xs-wire';
import type { RingClient } from '@virtlab/xenstore';
import type { XenstorePacket } from '@virtlab/xenstore/wire';
import { ConflictDebts } from './conflict-debts.ts';
import { bytesOf, frame, textOf } from './frame.ts';
import type { Script, Step } from './script.ts';
import type { DomainEnd, RunningDaemon, Subject } from './subjects/subject.ts';
import {
  type Expectation,
  type StepOutcome,
  type Transcript,
  describePacket,
  isStarted,
} from './transcript.ts';
import { WireConnection } from './wire-connection.ts';

/** Request numbers: below for raw bytes, from here for the steps' requests, from the other for fences. */
const FIRST_REQUEST = 0x1000;
const FIRST_FENCE = 0x8000_0000;
/** Id of a transaction that was never started. */
const NO_TRANSACTION = 0x7fff_0000;
/**
 * Turns of a daemon's loop after which it has seen an event or the end of a client that came before. A turn handles
 * one event channel's event, so the domains' kicks may stand before it; their number is bounded by the last fence's.
 */
const ROUND_COUNT = 24;

interface Guest {
  readonly end: DomainEnd;
  client: RingClient | undefined;
}

type RequestStep = Extract<Step, { kind: 'request' }>;

/** Plays `script` to a freshly started daemon. Rejects only when the daemon cannot be started. */
export async function play(script: Script, subject: Subject): Promise<Transcript> {
  const daemon = await subject.start();
  try {
    const player = new Player(daemon);
    await player.open();
    const transcript: StepOutcome[] = [];
    for (const step of script) transcript.push(await player.step(step));
    player.close();
    return transcript;
  } finally {
    await daemon.close();
  }
}

/**
 * One step at a time, and after each a fence: a cheap request on every connection. The daemons process a request,
 * with the events it causes on all connections, to its end before they read another one, and keep the order within
 * each connection. So once every fence is answered, everything that the step caused has arrived, without waiting for
 * time to pass.
 */
class Player {
  readonly #daemon: RunningDaemon;
  readonly #connections = new Map<string, WireConnection>();
  readonly #guests = new Map<number, Guest>();
  readonly #transactions = new Map<string, number>();
  readonly #debts = new ConflictDebts();
  #monitor: WireConnection | undefined;
  #fence = FIRST_FENCE;
  #requestId = FIRST_REQUEST;

  constructor(daemon: RunningDaemon) {
    this.#daemon = daemon;
  }

  async open(): Promise<void> {
    this.#monitor = new WireConnection(await this.#daemon.connectSocket());
    // A ring cannot tell that its daemon died; a socket can.
    this.#monitor.onEnd = () => {
      for (const connection of this.#connections.values()) connection.abandon('(connection ended)');
    };
  }

  close(): void {
    if (this.#monitor !== undefined) this.#monitor.onEnd = undefined;
    for (const connection of this.#connections.values()) connection.close();
    this.#monitor?.close();
  }

  async step(step: Step): Promise<StepOutcome> {
    switch (step.kind) {
      case 'request':
        return this.#ask(step);
      case 'introduce':
        return this.#introduce(step.on, step.domid);
      case 'raw':
        return this.#sendRaw(step.on, step.bytes);
      case 'create':
        if (!this.#guests.has(step.domid)) {
          this.#guests.set(step.domid, {
            end: await this.#daemon.createDomain(step.domid),
            client: undefined,
          });
        }
        return [];
      case 'shutdown':
        if (this.#guests.has(step.domid)) this.#daemon.shutdownDomain(step.domid);
        return this.#settle();
      case 'destroy':
        if (step.atOnce !== true) await this.#awaitCredit(step.domid);
        if (this.#guests.delete(step.domid)) this.#daemon.destroyDomain(step.domid);
        this.#disconnect(step.domid);
        return this.#settle();
      case 'close all':
        for (const [name, connection] of this.#connections) {
          if (Number.parseInt(name, 10) !== 0) continue;
          connection.close();
          this.#connections.delete(name);
        }
        return this.#settle();
      case 'close':
        this.#connections.get(step.on)?.close();
        this.#connections.delete(step.on);
        return this.#settle();
      case 'pause':
        this.#connections.get(step.on)?.pause();
        return [];
      case 'resume':
        this.#connections.get(step.on)?.resume();
        return this.#settle();
      case 'reconnect':
        return this.#reconnect(step.on);
    }
  }

  async #ask(step: RequestStep): Promise<StepOutcome> {
    const connection = await this.#connection(step.on);
    if (connection === undefined) return [`${step.on}> (no connection)`];
    const txId = this.#transactionId(step.tx);
    const expected = { type: step.op, txId, payload: step.payload, names: step.names };
    const packets = await this.#roundTrip(connection, step.op, txId, step.payload);
    const domid = Number.parseInt(step.payload, 10);
    const reply = packets.find(({ reqId }) => reqId === this.#requestId);
    const error = reply?.type === XS_ERROR ? textOf(reply.payload).replace(/\0$/, '') : undefined;
    this.#debts.answered(step, error);
    const isAccepted = reply?.type === step.op && textOf(reply.payload) === 'OK\0';
    if (isAccepted && (step.op === XS_RELEASE || step.op === XS_INTRODUCE)) this.#disconnect(domid);
    return this.#collect(step.on, packets, expected);
  }

  async #introduce(on: string, domid: number): Promise<StepOutcome> {
    const connection = await this.#connection(on);
    if (connection === undefined) return [`${on}> (no connection)`];
    const guest = this.#guests.get(domid);
    const { gfn, port } = guest?.end ?? { gfn: 1, port: 1 };
    const payload = `${domid}\0${gfn}\0${port}\0`;
    const packets = await this.#roundTrip(connection, XS_INTRODUCE, 0, payload);
    const reply = packets.find(({ reqId }) => reqId === this.#requestId);
    const lines: string[] = [];
    if (guest !== undefined && reply?.type === XS_INTRODUCE) {
      this.#disconnect(domid);
      const { features, error } = guest.end.ringState();
      lines.push(`${domid}> features ${features}, error ${error}`);
      this.#attach(domid, guest);
    }
    const expected = { type: XS_INTRODUCE, txId: 0, payload, names: undefined };
    return [...(await this.#collect(on, packets, expected)), ...lines];
  }

  async #sendRaw(on: string, bytes: string): Promise<StepOutcome> {
    const connection = await this.#connection(on);
    if (connection === undefined) return [`${on}> (no connection)`];
    connection.isMidway = true;
    connection.send(bytesOf(bytes));
    return this.#settle(on);
  }

  async #reconnect(on: string): Promise<StepOutcome> {
    const guest = this.#guests.get(Number(on));
    if (guest?.client === undefined) return [`${on}> (no connection)`];
    const { client } = guest;
    try {
      const done = client.reconnect();
      for (let round = 0; round < ROUND_COUNT; round++) await this.#round();
      client.onEvent();
      await done;
      this.#attach(Number(on), guest);
      return await this.#settle(on);
    } catch (error) {
      if (error instanceof TypeError) return [`${on}> (no reconnection)`];
      throw error;
    }
  }

  /** The request and, right behind it on the same connection, a fence. Returns what arrived, without the fence. */
  async #roundTrip(
    connection: WireConnection,
    type: number,
    txId: number,
    payload: string,
  ): Promise<XenstorePacket[]> {
    this.#requestId += 1;
    connection.send(bytesOf(frame(type, payload, { reqId: this.#requestId, txId })));
    connection.isMidway = false;
    if (connection.isPaused) await this.#rounds();
    else await this.#fenceOff([connection]);
    return connection.take();
  }

  /** Fences on all other connections, then everything that arrived, as lines. */
  async #collect(
    on: string,
    packets: readonly XenstorePacket[],
    expected: Expectation,
  ): Promise<StepOutcome> {
    const others = [...this.#connections].filter(([name]) => name !== on);
    await this.#fenceOff(others.map(([, connection]) => connection));
    const lines: string[] = [];
    for (const packet of packets) {
      if (packet.reqId >= FIRST_FENCE) continue;
      const isReply = packet.reqId === this.#requestId;
      lines.push(`${on}> ${describePacket(packet, isReply ? expected : undefined)}`);
      if (isReply && expected.names !== undefined && isStarted(packet)) {
        this.#transactions.set(expected.names, Number(textOf(packet.payload).slice(0, -1)));
      }
    }
    return [...lines, ...this.#endOf(on), ...this.#takeLines(on)];
  }

  /** For what has no reply: enough turns of the daemon's loop, then everything that arrived anywhere. */
  async #settle(first?: string): Promise<StepOutcome> {
    await this.#rounds();
    await this.#fenceOff([...this.#connections.values()]);
    // The clients' sockets hold the bytes by now; the next poll of the event loop delivers them.
    for (let turn = 0; turn < 2; turn++) await new Promise((resolve) => setImmediate(resolve));
    const own = first === undefined ? undefined : this.#connections.get(first);
    const lines = (own?.take() ?? [])
      .filter(({ reqId }) => reqId < FIRST_FENCE)
      .map((packet) => `${first}> ${describePacket(packet, undefined)}`);
    return [...lines, ...(first === undefined ? [] : this.#endOf(first)), ...this.#takeLines(first)];
  }

  #takeLines(except: string | undefined): string[] {
    const lines: string[] = [];
    for (const [name, connection] of [...this.#connections].sort(([a], [b]) => (a < b ? -1 : 1))) {
      if (name === except) continue;
      for (const packet of connection.take()) {
        if (packet.reqId < FIRST_FENCE) lines.push(`${name}> ${describePacket(packet, undefined)}`);
      }
      lines.push(...this.#endOf(name));
    }
    return lines;
  }

  /** Said once; a socket of that name is then opened anew when it is used again. */
  #endOf(name: string): string[] {
    const ended = this.#connections.get(name)?.ended;
    if (ended === undefined) return [];
    this.#connections.delete(name);
    return [`${name}> ${ended}`];
  }

  async #rounds(): Promise<void> {
    for (let round = 0; round < ROUND_COUNT; round++) await this.#round();
  }

  /**
   * Lets the daemon's ticks pass by which it forgives the domain. Nothing tells when it has; but of two round trips after
   * a tick's time the second begins in a turn of the loop that saw the tick.
   */
  async #awaitCredit(domid: number): Promise<void> {
    const { conflictTickMs } = this.#daemon;
    const count = conflictTickMs === undefined ? 0 : this.#debts.tickCountFor(domid);
    for (let tick = 0; tick < count; tick++) {
      await pass(conflictTickMs! + 1);
      await this.#round();
      await this.#round();
    }
    if (count > 0) this.#debts.clear();
  }

  async #round(): Promise<void> {
    if (this.#monitor !== undefined) await this.#fenceOff([this.#monitor]);
    this.#monitor?.take();
  }

  async #fenceOff(connections: readonly WireConnection[]): Promise<void> {
    this.#fence += 1;
    const reqId = this.#fence;
    const asked = connections.filter(
      (connection) => connection.ended === undefined && !connection.isPaused && !connection.isMidway,
    );
    const bytes = bytesOf(frame(XS_GET_DOMAIN_PATH, '0\0', { reqId }));
    for (const connection of asked) connection.send(bytes);
    const outcomes = await Promise.all(asked.map((connection) => connection.answered(reqId)));
    for (const [index, connection] of asked.entries()) {
      if (outcomes[index] === 'silent') connection.abandon('(no answer)');
    }
  }

  async #connection(name: string): Promise<WireConnection | undefined> {
    const known = this.#connections.get(name);
    if (known !== undefined || Number.parseInt(name, 10) !== 0) return known;
    try {
      const opened = new WireConnection(await this.#daemon.connectSocket());
      this.#connections.set(name, opened);
      return opened;
    } catch {
      return undefined; // the daemon is dead; its peer may go on
    }
  }

  #attach(domid: number, guest: Guest): void {
    const client = guest.end.connect();
    guest.client = client;
    this.#connections.set(String(domid), new WireConnection(client.stream, () => client.onEvent()));
  }

  #disconnect(domid: number): void {
    this.#connections.get(String(domid))?.close();
    this.#connections.delete(String(domid));
  }

  #transactionId(name: string | undefined): number {
    if (name === undefined) return 0;
    if (name.startsWith('#')) return Number(name.slice(1));
    return this.#transactions.get(name) ?? NO_TRANSACTION;
  }
}
