import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseDeviceType, deviceTypeText } from './device-offer.ts';
import { formatStatusLine, nextSerial, parseStatusLine } from './status-line.ts';

describe('status lines', () => {
  it('survive the way there and back', () => {
    const line = fc.record({
      serial: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
      status: fc.integer({ min: 0, max: 255 }),
    });
    fc.assert(
      fc.property(line, (value) => {
        expect(parseStatusLine(formatStatusLine(value))).toEqual(value);
      }),
    );
  });

  it.each([
    '',
    '1',
    '1 ',
    ' 1 1',
    '1  1',
    '1 1 1',
    '1 256',
    '4294967296 0',
    '-1 0',
    '1 -1',
    '1 0x1',
    '1\t1',
    '1 1\n',
  ])('%j is none', (text) => expect(parseStatusLine(text)).toBeUndefined());

  it('a serial is never 0, and always another one', () => {
    expect([0, 1, 2 ** 32 - 2, 2 ** 32 - 1].map(nextSerial)).toEqual([1, 2, 2 ** 32 - 1, 1]);
  });
});

describe('device types', () => {
  it('libxl: virtio,device and the id in hex', () => {
    expect(deviceTypeText(34)).toBe('virtio,device22');
    fc.assert(
      fc.property(fc.nat(), (type) => {
        expect(parseDeviceType(deviceTypeText(type))).toBe(type);
      }),
    );
    for (const text of ['', 'virtio', 'virtio,device', 'virtio,device1G', 'virtio,device123456789']) {
      expect(parseDeviceType(text)).toBeUndefined();
    }
  });
});
