import { describe, expect, it } from 'vitest';
import { VIRTIO_CONFIG_S_NEEDS_RESET, VIRTIO_F_NOTIFICATION_DATA, featureBit } from '@virtlab/abi/virtio';
import { initializeDevice } from '@virtlab/virtio';
import { SimulatedLoops } from '@virtlab/virtio/testing';
import { EchoDevice } from './testing/echo-device.ts';
import { FunctionFixture, MODERN_BAR, NOTIFY_OFFSET } from './testing/function-fixture.ts';
import { PciMachine, type PciMachineOptions } from './testing/pci-machine.ts';
import { type Tampering, tamperedAccess } from './testing/tampered-access.ts';

const DATA = featureBit(VIRTIO_F_NOTIFICATION_DATA);
const BAR4 = 0xe000_0000;

function bench(options: Partial<PciMachineOptions> = {}, tampering: Tampering = {}) {
  const loops = new SimulatedLoops(5);
  const { driverAio, deviceAio } = loops;
  const machine = new PciMachine({ device: new EchoDevice(), driverAio, deviceAio, ...options });
  return { loops, machine, access: tamperedAccess(machine.bus, tampering) };
}

/** A device whose driver accepted NOTIFICATION_DATA. */
function withData(notifyMultiplier: number = 4): FunctionFixture {
  const fixture = new FunctionFixture({ notifyMultiplier }).enable();
  fixture.write('device_status', 3);
  fixture.write('driver_feature_select', 1);
  fixture.write('driver_feature', Number(DATA >> 32n));
  fixture.write('device_status', 11);
  return fixture;
}

describe('kicks with data, as the device takes them (§4.1.5.2)', () => {
  it('§2.9 a kick is 32 bits wide: the queue, and where the driver’s next request goes', () => {
    const fixture = withData();
    fixture.pciFunction.barWrite(MODERN_BAR, NOTIFY_OFFSET + 4, 4, 0x8005_0001);
    expect([fixture.model.kicks, fixture.pciFunction.latestKickData(1)]).toEqual([[1], 0x8005]);
    fixture.pciFunction.barWrite(MODERN_BAR, NOTIFY_OFFSET + 4, 2, 1);
    fixture.pciFunction.barWrite(MODERN_BAR, NOTIFY_OFFSET + 4, 1, 1);
    expect(fixture.model.kicks).toEqual([1]);
  });

  it('§2.1 a reset ends it', () => {
    const fixture = withData();
    fixture.pciFunction.barWrite(MODERN_BAR, NOTIFY_OFFSET, 4, 0x0007_0000);
    fixture.write('device_status', 0);
    fixture.model.driverFeatures = 0n;
    fixture.kick(1);
    expect([fixture.model.kicks, fixture.pciFunction.latestKickData(0)]).toEqual([[0, 1], 0]);
  });

  it('§4.1.4.4 with a multiplier of 0 the value names the queue', () => {
    const fixture = withData(0);
    for (const value of [0x1_0001, 0x0000, 0xffff_0002, 0xffff_ffff]) {
      fixture.pciFunction.barWrite(MODERN_BAR, NOTIFY_OFFSET, 4, value);
    }
    fixture.pciFunction.barWrite(MODERN_BAR, NOTIFY_OFFSET + 4, 4, 1);
    expect(fixture.model.kicks).toEqual([1, 0]);
  });

  it('§4.1.4.4 a page for each queue', () => {
    const fixture = new FunctionFixture({ notifyMultiplier: 4096 }).enable();
    const { pciFunction, model } = fixture;
    expect(pciFunction.notifyAddresses().map(({ offset }) => offset)).toEqual([0x3000, 0x4000]);
    pciFunction.barWrite(MODERN_BAR, 0x4000, 2, 0);
    pciFunction.barWrite(MODERN_BAR, 0x3004, 2, 0);
    expect([model.kicks, pciFunction.bars.at(-1)!.size]).toEqual([[1], 0x8000]);
  });

  it.each([1, 2, 3, 6, 12, -4, 0x2_0000, 0.5])('§4.1.4.4.1 the multiplier %d is refused', (multiplier) => {
    expect(() => new FunctionFixture({ notifyMultiplier: multiplier })).toThrow(RangeError);
  });
});

describe('kicks with data, as the driver makes them', () => {
  it.each([
    ['each queue’s address', 4, 4],
    ['one address', 0, 0],
    ['a page for each', 4096, 4096],
  ])('§2.9 the ring’s position goes along, at %s', async (_what, notifyMultiplier, distance) => {
    const kicks: number[][] = [];
    const { machine, access, loops } = bench(
      { notifyMultiplier },
      {
        memoryWrite: (address, width, value) => {
          const at = address - BAR4;
          if (at >= NOTIFY_OFFSET && at < NOTIFY_OFFSET + Math.max(0x1000, 2 * notifyMultiplier))
            kicks.push([at, width, value]);
          return false;
        },
      },
    );
    const link = await machine.connect(access);
    const session = await loops.run(initializeDevice(link, { aio: loops.driverAio, wanted: DATA }));
    expect(session.features & DATA).toBe(DATA);
    link.transport.kick(1, 0x8003);
    session.kick(0);
    expect(kicks[0]).toEqual([NOTIFY_OFFSET + distance, 4, 0x8003_0001]);
    expect(machine.pciFunction.latestKickData(1)).toBe(0x8003);
    await loops.run(session.stop());
  });

  it('§4.1.4.4.1 a device that does not keep such kicks aligned is not given any', async () => {
    const NOTIFY_CAPABILITY_MULTIPLIER = 0x80;
    const { machine, access } = bench(
      {},
      { configRead: (offset, _, value) => (offset === NOTIFY_CAPABILITY_MULTIPLIER ? 2 : value) },
    );
    expect(machine.bus.configRead(machine.bdf, NOTIFY_CAPABILITY_MULTIPLIER, 4)).toBe(4);
    const { transport } = await machine.connect(access);
    expect((await transport.readDeviceFeatures()) & DATA).toBe(0n);
    expect((await (await bench().machine.connect()).transport.readDeviceFeatures()) & DATA).toBe(DATA);
  });
});

describe('queues that may not be kicked, and registers that may not be written (hostile)', () => {
  it('case 26, §4.1.4.3.2: queue_enable of 0 makes the device need a reset, once it is initialized', async () => {
    const { machine, loops } = bench();
    const link = await machine.connect();
    const session = await loops.run(initializeDevice(link, { aio: loops.driverAio, wanted: 0n }));
    machine.bus.memoryWrite(BAR4 + 22, 2, 1);
    machine.bus.memoryWrite(BAR4 + 28, 2, 0);
    expect(machine.host.status & VIRTIO_CONFIG_S_NEEDS_RESET).not.toBe(0);
    expect(machine.host.violation?.section).toBe('4.1.4.3.2');
    await loops.settle();
    expect(session.broken).toBe('device needs reset');
    await loops.run(session.stop());
    expect(machine.host.status).toBe(0);
  });

  it('case 27: kicks before DRIVER_OK, of queues that do not exist and of disabled ones are ignored', async () => {
    const { machine, loops } = bench();
    const link = await machine.connect();
    const kick = (queue: number): void => machine.bus.memoryWrite(BAR4 + NOTIFY_OFFSET + 4 * queue, 2, queue);
    kick(0);
    const options = { aio: loops.driverAio, wanted: 0n, queueCount: 1 };
    const session = await loops.run(initializeDevice(link, options));
    kick(1);
    kick(2);
    kick(1000);
    await loops.settle();
    expect([machine.host.violation, session.broken]).toEqual([undefined, undefined]);
    await loops.run(session.stop());
  });
});
