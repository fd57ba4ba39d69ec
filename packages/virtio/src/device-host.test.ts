import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { featureBits } from '@virtlab/abi/virtio';
import type { QueueAddresses } from '@virtlab/vring';
import { identityMemory, type LentMemory } from './conformance/memory-bench.ts';
import { PROBE_CONFIG_WRITABLE_OFFSET, ProbeDevice } from './conformance/probe-device.ts';
import {
  BASE_FEATURES,
  RawQueue,
  STATUS_DRIVER,
  STATUS_DRIVER_OK,
  STATUS_FEATURES_OK,
} from './conformance/raw-driver.ts';
import type { DeviceTransport, VirtioDevice } from './contract.ts';
import { DeviceHost, type DeviceHostOptions, type DeviceViolation } from './device-host.ts';
import { SimulatedLoops } from './testing/simulated-loops.ts';

const NEEDS_RESET = 0x40;

describe('DeviceHost', () => {
  let loops: SimulatedLoops;
  let lent: LentMemory;
  let device: ProbeDevice;
  let host: DeviceHost;
  let events: string[];
  let errors: unknown[];
  let violations: DeviceViolation[];
  let raw: RawQueue;

  const transport = (): DeviceTransport => ({
    capabilities: { name: 'test', queueReset: false, configWrite: true, callPerQueue: true },
    transportFeatures: 0n,
    memory: lent.deviceMemory,
    call: (queue) => events.push(`call ${queue}`),
    configChanged: () => events.push('configChanged'),
    statusChanged: () => events.push(`statusChanged ${host.status}`),
  });

  beforeEach(() => {
    loops = new SimulatedLoops(1);
    lent = identityMemory();
    device = new ProbeDevice();
    events = [];
    errors = [];
    violations = [];
    host = new DeviceHost({
      device,
      aio: loops.deviceAio,
      name: 'probe',
      polling: false,
      onError: (error) => errors.push(error),
      onViolation: (report) => violations.push(report),
    });
    host.attach(transport());
    raw = new RawQueue(lent.dma, 8);
  });

  afterEach(() => {
    host[Symbol.dispose]();
    raw.free();
    const leaks = [...lent.leaks(), ...loops.deviceAio.leaks()];
    if (leaks.length > 0) throw new Error(`Still held: ${leaks.join(', ')}`);
  });

  function configure(): void {
    host.writeStatus(STATUS_DRIVER);
    host.writeDriverFeatures(host.deviceFeatures & BASE_FEATURES);
    host.writeStatus(STATUS_FEATURES_OK);
  }

  function goLive(): void {
    configure();
    expect(host.enableQueue(0, raw.addresses)).toBe(true);
    host.writeStatus(STATUS_DRIVER_OK);
  }

  const refusals: readonly (readonly [string, number, Partial<QueueAddresses>])[] = [
    ['a queue that does not exist', 3, {}],
    ['size 0', 0, { size: 0 }],
    ['a size that is no power of two', 0, { size: 3 }],
    ['a size above the limit', 2, { size: 16 }],
    ['a negative size', 0, { size: -8 }],
  ];
  it.each(refusals)('§2.6 refuses %s, and needs reset', (_, queue, spoil) => {
    configure();
    expect(host.enableQueue(queue, { ...raw.addresses, ...spoil })).toBe(false);
    expect(host.status & NEEDS_RESET).toBe(NEEDS_RESET);
    expect(violations).toHaveLength(1);
    expect(violations[0]).toMatchObject({ device: 'probe', queue });
    expect(events, '§2.1.2 no configuration change before DRIVER_OK').toEqual([
      `statusChanged ${host.status}`,
    ]);
  });

  it('§3.1.1 refuses a queue before FEATURES_OK, after DRIVER_OK, and twice', () => {
    host.writeStatus(STATUS_DRIVER);
    expect(host.enableQueue(0, raw.addresses)).toBe(false);
    host.writeStatus(0);
    configure();
    expect(host.enableQueue(0, raw.addresses)).toBe(true);
    expect(host.enableQueue(0, raw.addresses)).toBe(false);
    host.writeStatus(0);
    goLive();
    expect(host.enableQueue(1, raw.addresses)).toBe(false);
    expect(violations.map(({ violation }) => violation.section)).toEqual(['3.1.1', '3.1.1', '3.1.1']);
    expect(events.at(-1), '§2.1.2 a configuration change after DRIVER_OK').toBe('configChanged');
  });

  it('§2.1.2 what was published before DRIVER_OK is taken after it, without a kick', async () => {
    configure();
    expect(host.enableQueue(0, raw.addresses)).toBe(true);
    raw.descriptor(0, { addr: raw.address, len: 4, flags: 0, next: 0 });
    raw.availableEntry(0, 0);
    raw.availableIndex(1);
    await loops.settle();
    expect(device.takenCount).toBe(0);
    host.writeStatus(STATUS_DRIVER_OK);
    await loops.settle();
    expect(device.takenCount).toBe(1);
  });

  it('§2.1 FAILED lets go of rings that were never live', () => {
    configure();
    host.enableQueue(0, raw.addresses);
    host.writeStatus(STATUS_FEATURES_OK | 0x80);
    expect(host.isQueueEnabled(0)).toBe(false);
  });

  it('§2.4.1 ignores everything while a reset drains, and tells the transport at its end', async () => {
    goLive();
    device.isResetHeld = true;
    host.writeStatus(0);
    expect(host.status).toBe(STATUS_DRIVER_OK);
    host.writeStatus(0);
    host.writeStatus(0xff);
    host.writeDriverFeatures(1n);
    host.writeConfig(40, Uint8Array.of(1));
    expect(host.enableQueue(1, raw.addresses)).toBe(false);
    expect(() => host.attach(transport())).toThrow(TypeError);
    expect(device.resetCount).toBe(1);
    device.finishReset();
    await loops.settle();
    expect(host.status).toBe(0);
    expect(host.driverFeatures).toBe(0n);
    expect(device.written[8]).toBe(0);
    expect(events).toEqual(['statusChanged 0']);
  });

  it('§2.5.2 the generation moves once per change that somebody could have seen', () => {
    goLive();
    const first = host.configGeneration;
    expect(host.configGeneration).toBe(first);
    device.setConfig(1);
    device.setConfig(2);
    expect(host.configGeneration).toBe(first + 1);
    expect(host.configGeneration).toBe(first + 1);
    expect(events).toEqual(['configChanged', 'configChanged']);
  });

  it('§2.5.1 what changed since it was read is told at DRIVER_OK, however long nobody was there to be told', () => {
    const out = new Uint8Array(4);
    host.readConfig(2, out);
    device.setConfig(1);
    const before = host.configGeneration;
    goLive();
    expect(events).toEqual(['configChanged']);
    expect(host.configGeneration).toBe(before + 1);
    host.readConfig(2, out);
    host.writeStatus(0);
    goLive();
    expect(events, 'it was read again').toEqual(['configChanged']);
    host.writeStatus(0);
    device.setConfig(3);
    goLive();
    expect(events, 'between two drivers').toEqual(['configChanged', 'configChanged']);
  });

  it('§2.2.2 says why features are refused, each time', () => {
    const reasons: string[] = [];
    const refusing = hostOf({ refuseFeatures: () => 'One needs another' }, loops, {
      onRefusal: (reason) => reasons.push(reason),
    });
    for (const _ of [1, 2]) {
      refusing.writeStatus(STATUS_DRIVER);
      refusing.writeDriverFeatures(refusing.deviceFeatures & BASE_FEATURES);
      refusing.writeStatus(STATUS_FEATURES_OK);
      refusing.writeStatus(0);
    }
    expect(reasons).toEqual(['One needs another', 'One needs another']);
    refusing[Symbol.dispose]();
  });

  it('§2.5.1 what nobody read, what the driver wrote, and what another transport read, is no change', async () => {
    device.setConfig(1);
    goLive();
    host.readConfig(0, new Uint8Array(host.configSize));
    host.writeConfig(PROBE_CONFIG_WRITABLE_OFFSET, new Uint8Array([7]));
    host.writeStatus(0);
    goLive();
    await host.detach();
    host.attach(transport());
    device.setConfig(2);
    goLive();
    expect(events).toEqual([]);
  });

  it('§2.5 reads of nothing and writes beyond the configuration do no harm', () => {
    const out = new Uint8Array(4).fill(9);
    host.readConfig(1000, out);
    expect([...out]).toEqual([0, 0, 0, 0]);
    host.writeConfig(62, Uint8Array.of(1, 2, 3));
    expect(device.written.at(-1)).toBe(0);
  });

  it('a device that throws from any method needs reset, and the error is reported', async () => {
    const fault = new Error('on purpose');
    const broken = ['activate', 'readConfig', 'writeConfig', 'reset'] as const;
    for (const method of broken) {
      const faulty: VirtioDevice = new ProbeDevice();
      faulty[method] = () => {
        throw fault;
      };
      errors = [];
      const one = new DeviceHost({
        device: faulty,
        aio: loops.deviceAio,
        onError: (error) => errors.push(error),
      });
      one.attach(transport());
      one.writeStatus(STATUS_DRIVER);
      one.writeDriverFeatures(BASE_FEATURES & one.deviceFeatures);
      one.writeStatus(STATUS_DRIVER_OK);
      one.readConfig(0, new Uint8Array(1));
      one.writeConfig(40, Uint8Array.of(1));
      expect(one.status & NEEDS_RESET, `after ${method}`).toBe(method === 'reset' ? 0 : NEEDS_RESET);
      await one.detach();
      expect(errors, `of ${method}`).toEqual([fault]);
      expect(one.status).toBe(0);
      one[Symbol.dispose]();
    }
  });

  it('after a detach the transport hears nothing, and another one may attach', async () => {
    goLive();
    expect(() => host.attach(transport())).toThrow(TypeError);
    await host.detach();
    device.setConfig(1);
    expect(events).toEqual([]);
    host.attach(transport());
    goLive();
    device.setConfig(2);
    expect(events).toEqual(['configChanged']);
  });

  it('refuses devices that offer what is not theirs, or impossible queues', () => {
    for (const bit of [24, 30, 32, 33, 37, 38, 39, 40, 41, 43]) {
      expect(() => hostOf({ features: featureBits(bit) }, loops), `bit ${bit}`).toThrow(RangeError);
    }
    for (const size of [3, -1, 1.5, 65536]) {
      expect(() => hostOf({ queueSizesMax: [size] }, loops), `size ${size}`).toThrow(RangeError);
    }
    expect(() => hostOf({ configSize: -1 }, loops)).toThrow(RangeError);
  });
});

function hostOf(
  change: Partial<VirtioDevice>,
  { deviceAio }: SimulatedLoops,
  options: Partial<DeviceHostOptions> = {},
): DeviceHost {
  return new DeviceHost({ ...options, device: Object.assign(new ProbeDevice(), change), aio: deviceAio });
}
