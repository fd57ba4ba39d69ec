import { createAioContext } from '@virtlab/aio';
import { describe, expect, it } from 'vitest';
import { parseFrame } from './packets.ts';
import { type FramePort, NetworkStation, parseIp } from './station.ts';

/** Two ends of a wire that delivers in a later turn, and may lose or spoil frames. */
function wire(
  spoil: (frame: Uint8Array) => Uint8Array | undefined = (frame) => frame,
): [FramePort, FramePort] {
  const handlers: ((frame: Uint8Array) => void)[] = [];
  const end = (own: number): FramePort => ({
    send: (frame) => {
      const copy = spoil(frame.slice());
      if (copy !== undefined) queueMicrotask(() => handlers[1 - own]?.(copy));
      return true;
    },
    kick: () => {},
    onFrame: (handler) => void (handlers[own] = handler),
    onWritable: () => {},
  });
  return [end(0), end(1)];
}

function station(port: FramePort, last: number): NetworkStation {
  const mac = Uint8Array.of(2, 0, 0, 0, 0, last);
  return new NetworkStation(createAioContext(), port, { mac, ip: parseIp(`10.0.0.${last}`) });
}

describe('NetworkStation', () => {
  it('RFC 826, RFC 792: resolves a neighbour and gets its echo replies', async () => {
    const [left, right] = wire();
    const a = station(left, 1);
    const b = station(right, 2);
    expect((await a.resolve('10.0.0.2')).mac).toEqual(b.station.mac);
    const result = await a.ping('10.0.0.2', 5, 56);
    expect([result.sent, result.received]).toEqual([5, 5]);
  });

  it('RFC 768: counts datagrams and their order', async () => {
    const [left, right] = wire();
    const a = station(left, 1);
    const b = station(right, 2);
    const sent = await a.blast('10.0.0.2', 9, 100, 5);
    await new Promise((resolve) => setTimeout(resolve));
    expect(b.takeUdpCount()).toEqual({ datagrams: sent, bytes: sent * 100, outOfOrder: 0 });
  });

  it('RFC 1071: drops what has a wrong checksum', async () => {
    const [left, right] = wire((frame) => {
      if (parseFrame(frame).kind === 'udp') frame[frame.length - 1]! ^= 1;
      return frame;
    });
    const a = station(left, 1);
    const b = station(right, 2);
    await a.blast('10.0.0.2', 9, 100, 2);
    await new Promise((resolve) => setTimeout(resolve));
    expect(b.takeUdpCount().datagrams).toBe(0);
  });

  it('parses no frame beyond its end', () => {
    const frame = new Uint8Array(64);
    frame.set([8, 0], 12);
    for (let size = 0; size < 64; size += 1) expect(parseFrame(frame.subarray(0, size)).kind).toBe('other');
  });
});
