import { describe, expect, it } from 'vitest';
import { advanceStatus, describeStatus } from './device-status.ts';

function write(current: number, written: number, isAcceptable: boolean = true): [number, string[]] {
  let status = current;
  const events: string[] = [];
  const steps = {
    featuresOk: (): boolean => {
      events.push('featuresOk');
      return isAcceptable;
    },
    driverOk: (): void => {
      events.push(`driverOk at ${describeStatus(status)}`);
    },
    failed: (): void => {
      events.push('failed');
    },
  };
  advanceStatus(current, written, steps, (bit) => {
    status |= bit;
  });
  return [status, events];
}

describe('advanceStatus', () => {
  it('§3.1.1 takes the bits in order, one write or several', () => {
    expect(write(0, 0x1)).toEqual([0x1, []]);
    expect(write(0x1, 0x3)).toEqual([0x3, []]);
    expect(write(0x3, 0xb)).toEqual([0xb, ['featuresOk']]);
    const live = 'driverOk at ACKNOWLEDGE|DRIVER|FEATURES_OK|DRIVER_OK';
    expect(write(0xb, 0xf)).toEqual([0xf, [live]]);
    expect(write(0, 0xf)).toEqual([0xf, ['featuresOk', live]]);
  });

  it('§3.1.1 takes no bit whose predecessor is missing', () => {
    expect(write(0, 0x2)).toEqual([0, []]);
    expect(write(0x1, 0x9)).toEqual([0x1, []]);
    expect(write(0x3, 0x7)).toEqual([0x3, []]);
  });

  it('§2.2.2 leaves FEATURES_OK and what follows clear when the set is refused', () => {
    expect(write(0x3, 0xf, false)).toEqual([0x3, ['featuresOk']]);
  });

  it('§2.1.1 clears nothing and runs no step twice', () => {
    expect(write(0xf, 0x1)).toEqual([0xf, []]);
    expect(write(0xf, 0xf)).toEqual([0xf, []]);
  });

  it('§2.1.2 takes nothing but FAILED while the device needs reset, and NEEDS_RESET never', () => {
    expect(write(0xb, 0x4b)).toEqual([0xb, []]);
    expect(write(0x4b, 0xf)).toEqual([0x4b, []]);
    expect(write(0x4b, 0x8f)).toEqual([0xcb, ['failed']]);
  });
});

describe('describeStatus', () => {
  it('names the bits', () => {
    expect(describeStatus(0)).toBe('0');
    expect(describeStatus(0x43)).toBe('ACKNOWLEDGE|DRIVER|DEVICE_NEEDS_RESET');
    expect(describeStatus(0x21)).toBe('ACKNOWLEDGE|0x20');
  });
});
