import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { NetPlan } from './daemon-plan.ts';
import { type NetFlags, netPlan } from './net-plan.ts';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'virtlab-'));
  vi.stubEnv('XDG_RUNTIME_DIR', folder);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

function plan(flags: Partial<NetFlags>, portCount = 1): NetPlan {
  return netPlan({ mtu: 1500, numQueues: 1, queueSize: 256, allowShrink: false, ...flags }, portCount);
}
const refusal = (message: RegExp): unknown =>
  expect.objectContaining({ name: 'StartError', kind: 'usage', message: expect.stringMatching(message) });

describe('streams of one daemon', () => {
  it('each has its own socket', () => {
    const [a, b] = [join(folder, 'a'), join(folder, 'b')];
    expect(plan({ stream: [a, b], switch: 'x' }).streams).toEqual([a, b, join(folder, 'virtlab/switch-x')]);
  });

  it('two at one socket, whatever they call it, would connect the switch to itself', () => {
    mkdirSync(join(folder, 'real'));
    symlinkSync('real', join(folder, 'link'));
    const twice: readonly Partial<NetFlags>[] = [
      { stream: [join(folder, 'a'), `${folder}/./real/../a`] },
      { stream: [join(folder, 'real/a'), join(folder, 'b'), join(folder, 'link/a')] },
    ];
    for (const flags of twice) expect(() => plan(flags)).toThrow(refusal(/^--stream .*given twice/));
    plan({ switch: 'x' });
    const ofSwitch = { stream: [join(folder, 'virtlab/switch-x')], switch: 'x' };
    expect(() => plan(ofSwitch)).toThrow(refusal(/given twice/));
  });

  it('XDG_RUNTIME_DIR that is not absolute is as none (XDG Base Directory Specification)', () => {
    vi.stubEnv('TMPDIR', folder);
    const own = join(folder, `virtlab-${process.geteuid!()}`);
    for (const runtime of ['', 'relative']) {
      vi.stubEnv('XDG_RUNTIME_DIR', runtime);
      expect(plan({ switch: 'x' }).streams).toEqual([join(own, 'switch-x')]);
    }
  });
});

describe('addresses of cards', () => {
  it('count up from --mac in the last byte, and do not pass its end', () => {
    const mac = Uint8Array.of(0, 0, 0, 0, 0, 0xfe);
    expect(plan({ mac }, 2).macs.map((each) => each[5])).toEqual([0xfe, 0xff]);
    expect(() => plan({ mac }, 3)).toThrow(refusal(/^--mac 00:00:00:00:00:fe: .* 3 cards/));
  });

  it('that nobody gave are of stations that differ, however many', () => {
    const { macs } = plan({}, 64);
    expect(new Set(macs.map((each) => each.join())).size).toBe(64);
    for (const mac of macs) expect(mac[0]! & 0x03).toBe(0x02);
  });
});
