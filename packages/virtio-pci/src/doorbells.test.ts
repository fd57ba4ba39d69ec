import { describe, expect, it } from 'vitest';
import { initializeDevice } from '@virtlab/virtio';
import { SimulatedLoops } from '@virtlab/virtio/testing';
import { EchoDevice } from './testing/echo-device.ts';
import { PciMachine, SLOT } from './testing/pci-machine.ts';

function machineWith(doorbells: boolean) {
  const loops = new SimulatedLoops(11);
  const { driverAio, deviceAio } = loops;
  return { loops, machine: new PciMachine({ device: new EchoDevice(), driverAio, deviceAio, doorbells }) };
}

describe('doorbells around the trap', () => {
  it.each([
    ['trapped write', false, 1],
    ['doorbell', true, 0],
  ])('a kick by %s reaches the device with %s and costs %i traps', async (_what, doorbells, traps) => {
    const { loops, machine } = machineWith(doorbells);
    const link = await machine.connect();
    const session = await loops.run(initializeDevice(link, { aio: loops.driverAio, wanted: 0n }));
    const before = {
      traps: machine.bus.statistics.memoryAccesses,
      kicks: machine.pciFunction.statistics.kickCount,
    };
    link.transport.kick(1);
    expect(machine.bus.statistics.memoryAccesses - before.traps).toBe(traps);
    await loops.settle();
    expect(machine.pciFunction.statistics.kickCount - before.kicks).toBe(1);
    await loops.run(session.stop());
  });

  it('many rings before the device runs are one kick', async () => {
    const { loops, machine } = machineWith(true);
    const link = await machine.connect();
    await loops.run(initializeDevice(link, { aio: loops.driverAio, wanted: 0n }));
    const before = machine.pciFunction.statistics.kickCount;
    for (let ring = 0; ring < 5; ring++) link.transport.kick(0);
    await loops.settle();
    expect(machine.pciFunction.statistics.kickCount - before).toBe(1);
  });

  it('a doorbell outlives its device in silence', async () => {
    const { loops, machine } = machineWith(true);
    const link = await machine.connect();
    await loops.run(initializeDevice(link, { aio: loops.driverAio, wanted: 0n }));
    const before = machine.pciFunction.statistics.kickCount;
    machine.pciFunction[Symbol.dispose]();
    link.transport.kick(0);
    await loops.settle();
    expect(machine.pciFunction.statistics.kickCount).toBe(before);
    expect(loops.deviceAio.leaks().filter((leak) => leak.includes('handler'))).toEqual([]);
    machine.bus.remove(SLOT);
  });
});
