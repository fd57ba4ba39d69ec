import { describe, expect, it } from 'vitest';
import { createSimulation } from '@virtlab/aio/simulated';
import { createHostPort } from './host-port.ts';
import { createLearningSwitch } from './learning-switch.ts';
import { BROADCAST, hex, mac, makeFrame } from './testing/frames.ts';

describe('HostPort', () => {
  it('sends and receives, in order, at the end of a batch', () => {
    const network = createLearningSwitch();
    const a = createHostPort(network, 'a');
    const b = createHostPort(network, 'b');
    const received: string[] = [];
    b.onFrame((frame) => received.push(hex(frame)));
    const frames = [1, 2, 3].map((mark) => makeFrame(mac(2), mac(1), 60 + mark, mark));
    for (const frame of frames) expect(a.send(frame)).toBe(true);
    expect(received).toEqual([]);
    a.kick();
    expect(received).toEqual(frames.map(hex));
    expect(b.statistics).toMatchObject({ txFrames: 3 });
  });

  it('a handler may answer at once', () => {
    const network = createLearningSwitch();
    const a = createHostPort(network, 'a');
    const b = createHostPort(network, 'b');
    const log: string[] = [];
    a.onFrame((frame) => log.push(`a ${frame[14]}`));
    b.onFrame((frame) => {
      log.push(`b ${frame[14]}`);
      b.send(makeFrame(mac(1), mac(2), 60, frame[14]));
      b.kick();
    });
    a.send(makeFrame(mac(2), mac(1), 60, 1));
    a.send(makeFrame(mac(2), mac(1), 60, 2));
    a.kick();
    expect(log.map((line) => line[0]).join('')).toBe('baba');
  });

  it('a handler is not entered again while it runs, and its frame stays as it is', () => {
    const network = createLearningSwitch();
    const a = createHostPort(network, 'a');
    const b = createHostPort(network, 'b');
    const log: string[] = [];
    b.onFrame((frame) => {
      b.send(makeFrame(mac(1), mac(2), 60, frame[14]! + 1));
      b.kick();
    });
    a.onFrame((frame) => {
      const before = hex(frame);
      log.push('in');
      if (log.length < 6) a.send(makeFrame(mac(2), mac(1), 60, frame[14]));
      a.kick();
      log.push(hex(frame) === before ? 'out' : 'changed');
    });
    a.send(makeFrame(mac(2), mac(1), 60, 1));
    a.kick();
    expect(log).toEqual(['in', 'out', 'in', 'out', 'in', 'out', 'in', 'out']);
  });

  it('two that answer each other for ever do not keep the thread', () => {
    const network = createLearningSwitch();
    const a = createHostPort(network, 'a', { queueSize: 10_000, burstCount: 1_000_000 });
    const b = createHostPort(network, 'b', { queueSize: 10_000, burstCount: 1_000_000 });
    let count = 0;
    for (const [port, frame] of [
      [a, makeFrame(mac(2), mac(1), 100)],
      [b, makeFrame(mac(1), mac(2), 100)],
    ] as const) {
      port.onFrame(() => {
        count += 1;
        port.send(frame);
        port.kick();
      });
    }
    a.send(makeFrame(mac(2), mac(1), 100));
    a.kick();
    expect(count).toBeGreaterThan(50);
    expect(count).toBeLessThan(500);
  });

  it('with an address takes only what is for it and for groups', () => {
    const network = createLearningSwitch();
    const a = createHostPort(network, 'a');
    const b = createHostPort(network, 'b', { mac: mac(2) });
    const received: number[] = [];
    b.onFrame((frame) => received.push(frame.length));
    a.send(makeFrame(mac(2), mac(1), 60));
    a.send(makeFrame(mac(3), mac(1), 61));
    a.send(makeFrame(BROADCAST, mac(1), 62));
    a.kick();
    expect(received).toEqual([60, 62]);
  });

  it('a busy station leaves the loop to others: false after a burst, onWritable in a later turn', async () => {
    const simulation = createSimulation({ seed: 1 });
    const aio = simulation.createContext('host');
    const network = createLearningSwitch();
    const a = createHostPort(network, 'a', { aio, burstCount: 4 });
    const frame = makeFrame(BROADCAST, mac(1), 60);
    let writable = 0;
    a.onWritable(() => (writable += 1));
    expect([1, 2, 3, 4, 5].map(() => a.send(frame))).toEqual([true, true, true, true, false]);
    expect(writable).toBe(0);
    await simulation.run();
    expect([writable, a.send(frame)]).toEqual([1, true]);
    await simulation.run();
    expect(writable, 'nobody waited').toBe(1);
    a.send(frame);
    a[Symbol.dispose]();
    expect(aio.leaks()).toEqual([]);
  });

  it('without a loop of its own takes the turns of the JavaScript engine', async () => {
    const a = createHostPort(createLearningSwitch(), 'a', { burstCount: 1 });
    const frame = makeFrame(BROADCAST, mac(1), 60);
    const writable = new Promise<void>((resolve) => a.onWritable(resolve));
    expect([a.send(frame), a.send(frame)]).toEqual([true, false]);
    await writable;
    expect(a.send(frame)).toBe(true);
    a[Symbol.dispose]();
  });

  it('drops what does not fit its queue, and what comes while nobody listens', () => {
    const network = createLearningSwitch();
    const a = createHostPort(network, 'a');
    const b = createHostPort(network, 'b', { queueSize: 150 });
    const frame = makeFrame(mac(2), mac(1), 60);
    const received: string[] = [];
    a.send(frame);
    b.onFrame((bytes) => received.push(hex(bytes)));
    for (let index = 0; index < 3; index += 1) a.send(frame);
    a.kick();
    for (let index = 0; index < 2; index += 1) a.send(frame);
    a.kick();
    expect(received.length).toBe(4);
    expect(b.statistics).toMatchObject({ txFrames: 4, txRefused: 2 });
  });

  it('leaves the switch when it is disposed of; refuses bad options', () => {
    const network = createLearningSwitch();
    const a = createHostPort(network, 'a');
    a[Symbol.dispose]();
    a[Symbol.dispose]();
    expect(network.ports).toEqual([]);
    expect(() => createHostPort(network, 'b', { mac: BROADCAST })).toThrow(RangeError);
    expect(() => createHostPort(network, 'b', { burstCount: 0 })).toThrow(RangeError);
    expect(() => a.send(new Uint8Array(13))).toThrow(RangeError);
    expect(network.ports).toEqual([]);
  });
});
