import { describe, expect, it } from 'vitest';
import { BytesFrame } from './frame-views.ts';
import { type LearningSwitchOptions, createLearningSwitch } from './learning-switch.ts';
import type { FrameReceiver, FrameView } from './network.ts';
import type { SwitchPort } from './switch-port.ts';
import { BROADCAST, hex, mac, makeFrame } from './testing/frames.ts';

/** A station that keeps what it gets, as long as it is not full. */
class Station implements FrameReceiver {
  readonly received: string[] = [];
  flushCount = 0;
  isFull = false;
  readonly port: SwitchPort;

  constructor(port: SwitchPort) {
    this.port = port;
    port.attach(this);
  }

  receive(frame: FrameView): boolean {
    if (this.isFull) return false;
    const bytes = new Uint8Array(frame.size);
    frame.copy(0, frame.size, bytes, 0);
    this.received.push(hex(bytes));
    return true;
  }

  flush(): void {
    this.flushCount += 1;
  }

  send(...frames: readonly Uint8Array[]): void {
    for (const frame of frames) this.port.transmit(new BytesFrame().set(frame));
    this.port.flush();
  }

  take(): string[] {
    return this.received.splice(0);
  }
}

function build(options: LearningSwitchOptions = {}): {
  network: ReturnType<typeof createLearningSwitch>;
  stations: [Station, Station, Station];
  time: { nowMs: number };
} {
  const time = { nowMs: 0 };
  const network = createLearningSwitch({ now: () => time.nowMs, ...options });
  const station = (name: string): Station => new Station(network.addPort(name));
  return { network, stations: [station('a'), station('b'), station('c')], time };
}

const [A, B, C] = [mac(1), mac(2), mac(3)];

describe('forwarding (802.1Q §8.6)', () => {
  it('floods what it does not know, then sends to one port', () => {
    const { stations } = build();
    const [a, b, c] = stations;
    const [first, answer, second] = [makeFrame(B, A, 60, 1), makeFrame(A, B, 60, 2), makeFrame(B, A, 60, 3)];
    a.send(first);
    b.send(answer);
    a.send(second);
    expect(stations.map((station) => station.take())).toEqual([
      [hex(answer)],
      [hex(first), hex(second)],
      [hex(first)],
    ]);
    expect([a.port.statistics.flooded, b.port.statistics.flooded]).toEqual([1, 0]);
    expect(c.port.statistics).toMatchObject({ txFrames: 1, txBytes: 60, rxFrames: 0 });
  });

  it.each([
    ['broadcast', BROADCAST],
    ['multicast', Uint8Array.of(0x01, 0, 0x5e, 0, 0, 1)],
    ['a group address that somebody claims as its own', Uint8Array.of(0x33, 0x33, 0, 0, 0, 1)],
  ])('always floods %s, and never back', (_what, group) => {
    const { stations } = build();
    const [a, b, c] = stations;
    b.send(makeFrame(A, B, 60));
    for (const station of stations) station.take();
    a.send(makeFrame(group, A, 60), makeFrame(group, A, 60));
    expect(stations.map((station) => station.take().length)).toEqual([0, 2, 2]);
    expect([b.flushCount, c.flushCount], 'flushed once a batch').toEqual([1, 2]);
  });

  it('does not send back to the port that the destination is on', () => {
    const { stations } = build();
    const [a] = stations;
    a.send(makeFrame(BROADCAST, A, 60), makeFrame(BROADCAST, B, 60));
    for (const station of stations) station.take();
    a.send(makeFrame(A, B, 60));
    expect(stations.map((station) => station.take().length)).toEqual([0, 0, 0]);
    expect(a.port.statistics.rxOwnSegment).toBe(1);
  });

  it('follows a station that moves', () => {
    const { stations } = build();
    const [a, b, c] = stations;
    b.send(makeFrame(BROADCAST, B, 60));
    c.send(makeFrame(BROADCAST, B, 60));
    for (const station of stations) station.take();
    a.send(makeFrame(B, A, 60));
    expect(stations.map((station) => station.take().length)).toEqual([0, 0, 1]);
  });

  it('follows a station that moves, or whose port goes, in the middle of a batch', () => {
    const { network, stations } = build();
    const [a, b, c] = stations;
    b.send(makeFrame(BROADCAST, B, 60));
    for (const station of stations) station.take();
    const transmit = (from: Station, to: Uint8Array, source: Uint8Array): void =>
      from.port.transmit(new BytesFrame().set(makeFrame(to, source, 60)));
    transmit(a, B, A);
    transmit(a, B, A);
    transmit(c, A, B);
    transmit(a, B, A);
    expect(stations.map((station) => station.take().length)).toEqual([1, 2, 1]);
    network.removePort('c');
    transmit(a, B, A);
    expect(stations.map((station) => station.take().length)).toEqual([0, 1, 0]);
    expect(a.port.statistics).toMatchObject({ flooded: 1, rxFrames: 4 });
  });

  it('counts each frame whose source finds no room', () => {
    const { stations } = build({ tableSizeMax: 1 });
    const [a, b] = stations;
    b.send(makeFrame(BROADCAST, B, 60));
    a.send(makeFrame(B, A, 60), makeFrame(B, A, 60), makeFrame(B, A, 60));
    expect([a.port.statistics.notLearned, b.take().length]).toEqual([3, 3]);
  });

  it.each([
    ['01-80-C2-00-00-00', 0x00, 0],
    ['01-80-C2-00-00-0F', 0x0f, 0],
    ['01-80-C2-00-00-10, which is an ordinary group', 0x10, 1],
  ])('reserved for bridges (802.1Q Table 8-1): %s', (_what, last, count) => {
    const { stations } = build();
    stations[0].send(makeFrame(Uint8Array.of(0x01, 0x80, 0xc2, 0, 0, last), A, 60));
    expect(stations.map((station) => station.received.length)).toEqual([0, count, count]);
    expect(stations[0].port.statistics.rxReserved).toBe(1 - count);
  });

  it('drops frames from a group, from nobody, and what is no frame', () => {
    const { network, stations } = build();
    const [a] = stations;
    a.send(
      makeFrame(B, BROADCAST, 60),
      makeFrame(B, new Uint8Array(6), 60),
      new Uint8Array(13),
      new Uint8Array(),
    );
    expect(stations.flatMap((station) => station.received)).toEqual([]);
    expect(a.port.statistics).toMatchObject({ rxFrames: 2, rxBadSource: 2, rxRunts: 2 });
    expect(network.addresses()).toEqual([]);
  });
});

describe('learning and ageing (802.1Q §8.7, §8.8)', () => {
  it('forgets an address that was not seen for the ageing time', () => {
    const { network, stations, time } = build({ agingMs: 1000 });
    const [a, b, c] = stations;
    b.send(makeFrame(BROADCAST, B, 60));
    time.nowMs = 1000;
    a.send(makeFrame(B, A, 60));
    expect(c.take().length, 'only the broadcast').toBe(1);
    const known = network.addresses().map(({ mac: at, port, ageMs }) => `${hex(at)} ${port} ${ageMs}`);
    expect(known.toSorted()).toEqual(['020000000001 a 0', '020000000002 b 1000']);
    time.nowMs = 1001;
    a.send(makeFrame(B, A, 60));
    expect(c.take().length, 'flooded').toBe(1);
    expect(network.addresses().map(({ port }) => port)).toEqual(['a']);
  });

  it('a full table learns nothing more and floods; what is too old makes room', () => {
    const { network, stations, time } = build({ agingMs: 1000, tableSizeMax: 4, portTableSizeMax: 4 });
    const [a, b, c] = stations;
    a.send(...[10, 11, 12, 13].map((last) => makeFrame(BROADCAST, mac(last), 60)));
    b.send(makeFrame(BROADCAST, B, 60));
    expect([network.addresses().length, b.port.statistics.notLearned]).toEqual([4, 1]);
    for (const station of stations) station.take();
    a.send(makeFrame(B, mac(10), 60));
    expect([b.take().length, c.take().length], 'flooded').toEqual([1, 1]);
    time.nowMs = 2000;
    b.send(makeFrame(BROADCAST, B, 60));
    expect(network.addresses().map(({ port }) => port)).toEqual(['b']);
  });

  it('one port that makes up addresses does not push out the others', () => {
    const { network, stations } = build({ tableSizeMax: 64 });
    const [a, b, c] = stations;
    a.send(...Array.from({ length: 5000 }, (_, index) => makeFrame(BROADCAST, mac(1000 + index), 60)));
    b.send(makeFrame(BROADCAST, B, 60));
    for (const station of stations) station.take();
    c.send(makeFrame(B, C, 60));
    expect([a.take().length, b.take().length]).toEqual([0, 1]);
    expect(network.addresses().filter(({ port }) => port === 'a').length).toBe(16);
    expect(a.port.statistics.notLearned).toBe(5000 - 16);
  });
});

describe('ports', () => {
  it('a slow port loses its frames; the others get all', () => {
    const { stations } = build();
    const [a, b, c] = stations;
    b.isFull = true;
    a.send(...Array.from({ length: 10 }, (_, index) => makeFrame(BROADCAST, A, 60, index)));
    expect([b.received.length, c.received.length]).toEqual([0, 10]);
    expect(b.port.statistics).toMatchObject({ txRefused: 10, txFrames: 0 });
    expect(b.flushCount).toBe(0);
  });

  it('a port without a station counts what it loses', () => {
    const { network, stations } = build();
    const port = network.addPort('empty');
    stations[0].send(makeFrame(BROADCAST, A, 60));
    expect(port.statistics.txNoReceiver).toBe(1);
  });

  it('a removed port is forgotten: nothing goes in or out, its name and its place are free', () => {
    const { network, stations } = build();
    const [a, b, c] = stations;
    b.send(makeFrame(BROADCAST, B, 60));
    expect([network.removePort('b'), network.removePort('b')]).toEqual([true, false]);
    for (const station of stations) station.take();
    b.send(makeFrame(BROADCAST, B, 60));
    a.send(makeFrame(B, A, 60));
    expect(stations.map((station) => station.take().length)).toEqual([0, 0, 1]);
    const again = new Station(network.addPort('b'));
    a.send(makeFrame(B, A, 60));
    expect([again.received.length, c.take().length], 'flooded').toEqual([1, 1]);
    expect(network.ports.map(({ name }) => name)).toEqual(['a', 'c', 'b']);
  });

  it('refuses a second port of one name, a second receiver, and bad limits', () => {
    const { network, stations } = build();
    expect(() => network.addPort('a')).toThrow(TypeError);
    expect(() => stations[0].port.attach(stations[1])).toThrow(TypeError);
    expect(() => createLearningSwitch({ agingMs: 0 })).toThrow('agingMs 0');
    expect(() => createLearningSwitch({ tableSizeMax: 0 })).toThrow('tableSizeMax 0');
    expect(() => createLearningSwitch({ portTableSizeMax: 1.5 })).toThrow('portTableSizeMax 1.5');
  });

  it('shows every frame that a station sends to the capture, once', () => {
    const captured: string[] = [];
    const { stations } = build({
      capture: {
        capture: (frame) => {
          const bytes = new Uint8Array(frame.size);
          frame.copy(0, frame.size, bytes, 0);
          captured.push(hex(bytes));
        },
      },
    });
    const frames = [makeFrame(BROADCAST, A, 60), makeFrame(A, BROADCAST, 61), makeFrame(B, A, 62)];
    stations[0].send(...frames);
    expect(captured).toEqual(frames.map(hex));
  });
});
