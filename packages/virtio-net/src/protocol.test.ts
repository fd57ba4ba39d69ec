import { describe, expect, it } from 'vitest';
import { featureBits } from '@virtlab/abi/virtio';
import { VIRTIO_NET_F_MAC, VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS } from '@virtlab/abi/virtio-net';
import { createNetDevice } from './device.ts';
import {
  NET_HEADER_SIZE,
  RECEIVE_BUFFER_SIZE_MIN,
  RECEIVE_QUEUE,
  TRANSMIT_QUEUE,
  configSizeFor,
  decodeConfig,
  isStationAddress,
} from './protocol.ts';
import { hex, mac } from './testing/frames.ts';
import { TestWire } from './testing/wire.ts';

describe('sizes and numbers', () => {
  it('§5.1.2 receive queue 0, transmit queue 1; §5.1.9 a header of 12 bytes', () => {
    expect([RECEIVE_QUEUE, TRANSMIT_QUEUE, NET_HEADER_SIZE]).toEqual([0, 1, 12]);
  });

  it('§5.1.9.3.1 receive buffers of at least 1526 bytes', () => {
    expect(RECEIVE_BUFFER_SIZE_MIN).toBe(1526);
  });

  it('§5.1.4 reads as much configuration as the features make valid', () => {
    expect(configSizeFor(0n)).toBe(0);
    expect(configSizeFor(featureBits(VIRTIO_NET_F_MAC))).toBe(6);
    expect(configSizeFor(featureBits(VIRTIO_NET_F_STATUS))).toBe(8);
    expect(configSizeFor(featureBits(VIRTIO_NET_F_MAC, VIRTIO_NET_F_MTU))).toBe(12);
  });
});

/** Speed and duplex unknown, keys of 40 bytes, tables of 128, all nine hash types. */
const REST = 'ffffffffff288000ff010000';

describe('configuration space', () => {
  it('§5.1.4 mac at 0, status at 6, mtu at 10', () => {
    const device = createNetDevice({ mac: mac(0x1234), mtu: 9000, port: new TestWire() });
    const bytes = new Uint8Array(device.configSize);
    device.readConfig(0, bytes);
    expect(hex(bytes)).toBe(`020000001234010001002823${REST}`);
    device.setLink(false);
    device.readConfig(0, bytes);
    expect(hex(bytes)).toBe(`020000001234000001002823${REST}`);
  });

  it('fields beyond the prefix are zero', () => {
    const { mac: address, status, mtu } = decodeConfig(Uint8Array.of(2, 0, 0, 0, 0, 9));
    expect([hex(address), status, mtu]).toEqual(['020000000009', 0, 0]);
  });
});

describe('an address', () => {
  it.each([
    ['a station', '020000000001', true],
    ['all zero', '000000000000', false],
    ['broadcast', 'ffffffffffff', false],
    ['multicast', '01005e000001', false],
    ['five bytes', '0200000000', false],
  ])('%s', (_what, text, isStation) => {
    expect(isStationAddress(Buffer.from(text, 'hex'))).toBe(isStation);
  });
});

describe('device options', () => {
  it.each([
    ['a group address', { mac: new Uint8Array(6).fill(0xff) }, 'mac'],
    ['an MTU of 67', { mtu: 67 }, 'mtu 67'],
    ['an MTU of 65,536', { mtu: 65_536 }, 'mtu 65536'],
    ['a queue of 3', { queueSize: 3 }, 'queueSize 3'],
    ['a queue of 2', { queueSize: 2 }, 'queueSize 2'],
  ])('refuses %s', (_what, wrong, message) => {
    expect(() => createNetDevice({ mac: mac(1), port: new TestWire(), ...wrong })).toThrow(message);
  });
});
