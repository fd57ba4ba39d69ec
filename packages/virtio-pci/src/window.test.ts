import { describe, expect, it } from 'vitest';
import { PCI_COMMAND, PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY } from '@virtlab/abi/pci';
import { initializeDevice } from '@virtlab/virtio';
import { SimulatedLoops } from '@virtlab/virtio/testing';
import { EchoDevice } from './testing/echo-device.ts';
import { WINDOW_CAPABILITY } from './testing/function-fixture.ts';
import { PciMachine } from './testing/pci-machine.ts';
import { type Tampering, tamperedAccess } from './testing/tampered-access.ts';
import { windowAccess, windowBars } from './window-access.ts';

function bench(tampering: Tampering = {}) {
  const loops = new SimulatedLoops(5);
  const { driverAio, deviceAio } = loops;
  const device = new EchoDevice();
  const machine = new PciMachine({ device, driverAio, deviceAio, registers: 'window' });
  return { loops, machine, access: tamperedAccess(machine.bus, tampering) };
}

describe('a driver by the PCI_CFG window (§4.1.4.9)', () => {
  it('§4.1.4.9 drives a device whose BARs were never placed, without memory decoding or a memory access', async () => {
    const { machine, loops } = bench();
    const link = await machine.connect();
    expect(link.transport.callMode).toBe('intx');
    expect(machine.bus.configRead(machine.bdf, PCI_COMMAND, 2)).toBe(PCI_COMMAND_MASTER);
    const session = await loops.run(initializeDevice(link, { aio: loops.driverAio, wanted: 0n }));
    const kicks = machine.pciFunction.statistics.kickCount;
    link.transport.kick(1);
    expect(machine.pciFunction.statistics.kickCount).toBe(kicks + 1);
    expect([...(await loops.run(session.readConfig(1, 6)))]).toEqual([1, 2, 3, 4, 5, 6]);
    expect(machine.bus.statistics.memoryAccesses).toBe(0);
    await loops.run(session.stop());
    await loops.run(link[Symbol.asyncDispose]());
    expect(await machine.close()).toEqual([]);
  });

  it('§4.1.4.9.2 one access is bar, offset, length, data, in the register’s width', () => {
    const writes: number[][] = [];
    const { machine } = bench();
    const access = windowAccess(
      {
        ...tamperedAccess(machine.bus, {}),
        configWrite: (bdf, offset, width, value) => {
          writes.push([offset - WINDOW_CAPABILITY, width, value]);
          machine.bus.configWrite(bdf, offset, width, value);
        },
      },
      machine.bdf,
      WINDOW_CAPABILITY,
    );
    const [bar] = windowBars([{ index: 4, size: 0x4000, is64Bit: true, address: 0 }]);
    expect(access.memoryRead(bar!.address + 18, 2)).toBe(2);
    access.memoryWrite(bar!.address + 20, 1, 1);
    expect(writes).toEqual([
      [4, 1, 4],
      [8, 4, 18],
      [12, 4, 2],
      [4, 1, 4],
      [8, 4, 20],
      [12, 4, 1],
      [16, 1, 1],
    ]);
    expect(machine.host.status).toBe(1);
    expect(access.memoryRead(0x1000, 4)).toBe(0xffff_ffff);
  });

  it('MSI-X is used when its own BAR was placed', async () => {
    const { machine } = bench();
    machine.bus.configWrite(machine.bdf, 0x14, 4, 0xd000_0000);
    const link = await machine.connect();
    expect(link.transport.callMode).toBe('msix-per-queue');
    expect(machine.bus.configRead(machine.bdf, PCI_COMMAND, 2)).toBe(PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY);
  });

  it('§4.1.4.9.1 a device without a usable window is refused: EPROTO', async () => {
    const { machine, access } = bench({
      configRead: (offset, _, value) => (offset === WINDOW_CAPABILITY ? value & 0x00ff_ffff : value),
    });
    await expect(machine.connect(access)).rejects.toMatchObject({ code: 'EPROTO' });
  });
});
