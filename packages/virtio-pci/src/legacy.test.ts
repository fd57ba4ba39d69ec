import { describe, expect, it } from 'vitest';
import { PCI_COMMAND, PCI_COMMAND_IO, PCI_COMMAND_MEMORY, PCI_MSIX_FLAGS_ENABLE } from '@virtlab/abi/pci';
import { VIRTIO_CONFIG_S_NEEDS_RESET, VIRTIO_ID_GPU } from '@virtlab/abi/virtio';
import { initializeDevice } from '@virtlab/virtio';
import { SimulatedLoops } from '@virtlab/virtio/testing';
import { legacyQueueAddresses } from './legacy-queue.ts';
import type { AccessWidth } from './pci-function.ts';
import { EchoDevice } from './testing/echo-device.ts';
import { FunctionFixture, type FunctionFixtureOptions } from './testing/function-fixture.ts';
import { PciMachine, type PciMachineOptions } from './testing/pci-machine.ts';
import { RecordingModel } from './testing/recording-model.ts';

/** §4.1.4.10, written out so that a change of ours is noticed. */
const FEATURES = 0;
const GUEST_FEATURES = 4;
const PFN = 8;
const SIZE = 12;
const SELECT = 14;
const NOTIFY = 16;
const STATUS = 18;
const ISR = 19;
const CONFIG_VECTOR = 20;
const QUEUE_VECTOR = 22;

function legacy(options: FunctionFixtureOptions = {}) {
  const fixture = new FunctionFixture({ interfaceKind: 'transitional', ...options }).enable();
  return {
    fixture,
    model: fixture.model,
    read: (offset: number, width: AccessWidth) => fixture.pciFunction.barRead(0, offset, width),
    write: (offset: number, width: AccessWidth, value: number) =>
      fixture.pciFunction.barWrite(0, offset, width, value),
  };
}

function bench(options: Partial<PciMachineOptions> = {}) {
  const loops = new SimulatedLoops(7);
  const { driverAio, deviceAio } = loops;
  const device = new EchoDevice();
  const machine = new PciMachine({
    device,
    driverAio,
    deviceAio,
    interfaceKind: 'transitional',
    registers: 'legacy',
    ...options,
  });
  return { loops, device, machine };
}

describe('identity (§4.1.2)', () => {
  it('§4.1.2.3 a transitional device has an id of its own, revision 0, and its type in the subsystem id', () => {
    const { pciFunction } = new FunctionFixture({ interfaceKind: 'transitional' });
    expect([0, 2, 8, 0x2e].map((at) => pciFunction.configRead(at, 2))).toEqual([0x1af4, 0x1005, 0, 4]);
    expect(pciFunction.configRead(8, 1)).toBe(0);
    expect(pciFunction.bars.map(({ index, isIo, size }) => [index, isIo ?? false, size])).toEqual([
      [0, true, 64],
      [1, false, 0x1000],
      [4, false, 0x4000],
    ]);
    expect(pciFunction.configRead(0x10, 4)).toBe(1);
  });

  it('a legacy device has no virtio capability and no modern BAR', () => {
    const { pciFunction } = new FunctionFixture({ interfaceKind: 'legacy' });
    expect(pciFunction.bars.map(({ index }) => index)).toEqual([0, 1]);
    expect(pciFunction.configRead(pciFunction.configRead(0x34, 1), 2)).toBe(0x0011);
  });

  it('a device type that never had a legacy interface is refused', () => {
    const model = new RecordingModel();
    model.deviceType = VIRTIO_ID_GPU;
    expect(() => new FunctionFixture({ model, interfaceKind: 'transitional' })).toThrow(RangeError);
  });
});

describe('legacy registers (§4.1.4.10)', () => {
  it('shows 32 bits of features and drops what was not offered', () => {
    const { model, read, write } = legacy();
    model.deviceFeatures = 0x1_3000_0001n;
    expect(read(FEATURES, 4)).toBe(0x3000_0001);
    write(GUEST_FEATURES, 4, 0xffff_ffff);
    expect([model.driverFeatures, read(GUEST_FEATURES, 4)]).toEqual([0x3000_0001n, 0x3000_0001]);
  });

  it('§2.7.2 a page number places a whole queue, of the device’s size, used ring on a page of its own', () => {
    const { model, read, write } = legacy();
    write(STATUS, 1, 3);
    write(SELECT, 2, 1);
    expect([read(SIZE, 2), read(PFN, 4)]).toEqual([128, 0]);
    write(PFN, 4, 0x12345);
    expect(model.enabled.get(1)).toEqual({
      size: 128,
      descriptorArea: 0x1234_5000n,
      driverArea: 0x1234_5800n,
      deviceArea: 0x1234_6000n,
    });
    expect(read(PFN, 4)).toBe(0x12345);
    expect(legacyQueueAddresses(0x1000n, 256).deviceArea).toBe(0x3000n);
    expect(legacyQueueAddresses(0x1000n, 32768).deviceArea).toBe(0x9_2000n);
  });

  it('§3.1.2 FEATURES_OK is set on the driver’s behalf and not shown', () => {
    const { model, read, write } = legacy();
    write(STATUS, 1, 1);
    write(STATUS, 1, 0xff);
    expect(model.statusWrites).toContain(0xff & ~4);
    expect(model.status & 8).toBe(0);
    write(STATUS, 1, 0);
    write(STATUS, 1, 3);
    write(STATUS, 1, 7);
    expect(model.statusWrites.slice(-3)).toEqual([3, 11, 7]);
    model.status = 0xf;
    expect(read(STATUS, 1)).toBe(7);
  });

  it('§4.1.5.2 kicks name the queue by value; ISR reads clear', () => {
    const { fixture, model, read, write } = legacy();
    write(NOTIFY, 2, 1);
    write(NOTIFY, 2, 2);
    write(NOTIFY, 4, 0);
    expect(model.kicks).toEqual([1]);
    fixture.pciFunction.call(0);
    expect([read(ISR, 1), read(ISR, 1), fixture.levels]).toEqual([1, 0, [true, false]]);
  });

  it('§4.1.4.10 vectors are there while MSI-X is enabled, and device configuration moves behind them', () => {
    const { fixture, model, read, write } = legacy();
    model.config.set([1, 2, 3, 4, 5, 6]);
    expect([read(20, 4), read(24, 2)]).toEqual([0x0403_0201, 0x0605]);
    fixture.setMsixFlags(PCI_MSIX_FLAGS_ENABLE);
    expect([read(CONFIG_VECTOR, 2), read(QUEUE_VECTOR, 2), read(24, 4)]).toEqual([
      0xffff, 0xffff, 0x0403_0201,
    ]);
    write(CONFIG_VECTOR, 2, 2);
    write(QUEUE_VECTOR, 2, 1);
    expect([read(CONFIG_VECTOR, 2), read(QUEUE_VECTOR, 2)]).toEqual([2, 1]);
    write(QUEUE_VECTOR, 2, 3);
    expect(read(QUEUE_VECTOR, 2)).toBe(0xffff);
    write(25, 1, 9);
    expect(model.configWrites).toEqual([{ offset: 1, bytes: [9] }]);
  });

  it('a page number of 0 resets the device', () => {
    const { model, write } = legacy();
    write(STATUS, 1, 3);
    write(PFN, 4, 5);
    write(PFN, 4, 0);
    expect([model.statusWrites.at(-1), model.enabled.size]).toEqual([0, 0]);
  });

  it('a driver by the modern interface is not disturbed', () => {
    const { model, read, write } = legacy();
    model.acceptsLegacy = false;
    model.status = 15;
    write(GUEST_FEATURES, 4, 1);
    write(PFN, 4, 5);
    write(NOTIFY, 2, 0);
    write(STATUS, 1, 3);
    expect([model.driverFeatures, model.enabled.size, model.kicks, model.statusWrites]).toEqual([
      0n,
      0,
      [],
      [],
    ]);
    expect(read(STATUS, 1)).toBe(7);
  });
});

describe('a legacy driver and a device (§3.1.2)', () => {
  it('negotiates 32 bits without VERSION_1, places queues by page, and turns on I/O decoding', async () => {
    const { machine, loops, device } = bench();
    const link = await machine.connect();
    expect(link.transport.capabilities).toMatchObject({ legacy: true, queueReset: false });
    const session = await loops.run(initializeDevice(link, { aio: loops.driverAio, wanted: 0n }));
    expect(session.features >> 32n).toBe(0n);
    expect(device.activation?.features).toBe(session.features);
    const { descriptorArea, deviceArea, size } = session.queues[0]!.addresses;
    expect([descriptorArea % 4096n, deviceArea % 4096n, size]).toEqual([0n, 0n, 8]);
    const decoding = PCI_COMMAND_IO | PCI_COMMAND_MEMORY;
    expect(machine.bus.configRead(machine.bdf, PCI_COMMAND, 2) & decoding).toBe(decoding);
    expect(machine.host.status).toBe(15);
    await loops.run(session.stop());
    await loops.run(link[Symbol.asyncDispose]());
    expect(await machine.close()).toEqual([]);
  });

  it('a set that the device cannot work with is said by NEEDS_RESET', async () => {
    const { machine, loops, device } = bench();
    Object.assign(device, { refuseFeatures: () => 'not without VERSION_1' });
    const link = await machine.connect();
    const attempt = initializeDevice(link, { aio: loops.driverAio, wanted: 0n });
    await expect(loops.run(attempt)).rejects.toMatchObject({ code: 'EIO' });
    await loops.run(link.transport.writeStatus(0));
    for (const status of [1, 3, 7]) await link.transport.writeStatus(status);
    expect((await link.transport.readStatus()) & VIRTIO_CONFIG_S_NEEDS_RESET).not.toBe(0);
    expect(machine.host.violation?.section).toBe('2.2.3');
  });

  it('a queue that is laid out for VERSION_1 is not taken: ENOTSUP', async () => {
    const { machine } = bench();
    const { transport } = await machine.connect();
    const good = legacyQueueAddresses(0x4000n, 8);
    for (const change of [
      { size: 4 },
      { descriptorArea: 0x4010n },
      { driverArea: 0x5000n },
      { deviceArea: 0x4100n },
    ]) {
      await expect(transport.enableQueue(0, { ...good, ...change })).rejects.toMatchObject({
        code: 'ENOTSUP',
      });
    }
    const high = legacyQueueAddresses(2n ** 44n, 8);
    await expect(transport.enableQueue(0, high)).rejects.toMatchObject({ code: 'ENOTSUP' });
    await expect(transport.resetQueue(0)).rejects.toMatchObject({ code: 'ENOTSUP' });
    await expect(transport.enableQueue(2, good)).rejects.toThrow(RangeError);
  });

  it('a modern device has no legacy registers: EPROTO; a legacy one no modern registers', async () => {
    await expect(bench({ interfaceKind: 'modern' }).machine.connect()).rejects.toMatchObject({
      code: 'EPROTO',
    });
    const old = bench({ interfaceKind: 'legacy', registers: 'bars' });
    await expect(old.machine.connect()).rejects.toMatchObject({ code: 'EPROTO' });
  });

  it('legacy and modern drivers take turns, each after a reset', async () => {
    const { machine, loops } = bench({ registers: 'bars' });
    for (const registers of ['legacy', 'bars', 'legacy'] as const) {
      const link = await machine.connect(machine.bus, undefined, registers);
      const session = await loops.run(initializeDevice(link, { aio: loops.driverAio, wanted: 0n }));
      expect(session.features >> 32n === 0n).toBe(registers === 'legacy');
      await loops.run(session.stop());
      await loops.run(link[Symbol.asyncDispose]());
    }
    expect(await machine.close()).toEqual([]);
  });
});
