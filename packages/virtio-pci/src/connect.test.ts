import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createPrng } from '@virtlab/aio';
import {
  PCI_COMMAND,
  PCI_COMMAND_MASTER,
  PCI_COMMAND_MEMORY,
  PCI_DEVICE_ID,
  PCI_HEADER_TYPE,
  PCI_INTERRUPT_PIN,
  PCI_MSIX_FLAGS_ENABLE,
  PCI_SUBSYSTEM_ID,
  PCI_VENDOR_ID,
} from '@virtlab/abi/pci';
import { VIRTIO_CONFIG_S_FEATURES_OK } from '@virtlab/abi/virtio';
import { VIRTIO_MSI_NO_VECTOR, VIRTIO_PCI_COMMON_CFG } from '@virtlab/abi/virtio-pci';
import { TransportError, initializeDevice } from '@virtlab/virtio';
import { SimulatedLoops } from '@virtlab/virtio/testing';
import type { VirtioPciDriverTransport } from './driver-transport.ts';
import type { AccessWidth } from './pci-function.ts';
import { EchoDevice } from './testing/echo-device.ts';
import { MSIX_CAPABILITY, NOTIFY_OFFSET } from './testing/function-fixture.ts';
import { PciMachine, type PciMachineOptions } from './testing/pci-machine.ts';
import { type Tampering, tamperedAccess } from './testing/tampered-access.ts';

/** Where `assignBars` puts the largest BAR. */
const BAR4 = 0xe000_0000;
const { offset: at } = VIRTIO_PCI_COMMON_CFG;

function bench(options: Partial<PciMachineOptions> = {}, tampering: Tampering = {}) {
  const loops = new SimulatedLoops(7);
  const device = new EchoDevice();
  const { driverAio, deviceAio } = loops;
  const machine = new PciMachine({ device, driverAio, deviceAio, ...options });
  return { loops, device, machine, access: tamperedAccess(machine.bus, tampering) };
}

const queueAddresses = { size: 8, descriptorArea: 0x1000n, driverArea: 0x2000n, deviceArea: 0x1_0000_3000n };

describe('connecting (§4.1.2)', () => {
  it('§4.1.2.1 finds the device type, the queues, and turns memory and bus mastering on', async () => {
    const { machine } = bench();
    const { transport } = await machine.connect();
    expect([transport.deviceType, transport.queueCount]).toEqual([3, 2]);
    expect(transport.capabilities).toEqual({
      name: 'pci',
      queueReset: false,
      configWrite: true,
      callPerQueue: true,
    });
    expect(machine.bus.configRead(machine.bdf, PCI_COMMAND, 2)).toBe(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
  });

  it('§4.1.2.1 accepts a transitional device, whose type is its subsystem id', async () => {
    const ids = new Map([
      [PCI_DEVICE_ID, 0x1003],
      [PCI_SUBSYSTEM_ID, 3],
    ]);
    const { machine, access } = bench({}, { configRead: (offset, _, value) => ids.get(offset) ?? value });
    expect((await machine.connect(access)).transport.deviceType).toBe(3);
  });

  it('§4.1.4.3 a device may have more queues once features are agreed on, each with a vector', async () => {
    let isAgreed = false;
    const { loops, machine, access } = bench(
      {},
      {
        memoryRead: (address, _, value) => (address === BAR4 + at.num_queues && !isAgreed ? 1 : value),
        memoryWrite: (address, _, value) => {
          if (address === BAR4 + at.device_status) isAgreed = (value & VIRTIO_CONFIG_S_FEATURES_OK) !== 0;
          return false;
        },
      },
    );
    const link = await machine.connect(access);
    expect(link.transport.queueCount).toBe(1);
    const session = await initializeDevice(link, { aio: loops.driverAio, wanted: 0n, queueCount: 2 });
    expect([link.transport.queueCount, session.queues.length, link.transport.callMode]).toEqual([
      2,
      2,
      'msix-per-queue',
    ]);
    await session.stop();
    await link[Symbol.asyncDispose]();
  });

  it.each([
    ['an empty slot', PCI_VENDOR_ID, 0xffff, 'ENODEV'],
    ['another vendor', PCI_VENDOR_ID, 0x8086, 'ENOTSUP'],
    ['a device id below', PCI_DEVICE_ID, 0x0fff, 'ENOTSUP'],
    ['a device id above', PCI_DEVICE_ID, 0x1080, 'ENOTSUP'],
    ['a bridge', PCI_HEADER_TYPE, 1, 'ENOTSUP'],
  ])('§4.1.2.1 refuses %s', async (_what, register, value, code) => {
    const configRead = (offset: number, _: number, real: number): number =>
      offset === register ? value : real;
    const { machine, access } = bench({}, { configRead });
    await expect(machine.connect(access)).rejects.toMatchObject({ name: 'TransportError', code });
  });

  it('BARs that were not placed are refused: EPROTO', async () => {
    const { machine, access } = bench(
      {},
      { configRead: (offset, _, v) => (offset >= 0x10 && offset < 0x28 ? 0 : v) },
    );
    await expect(machine.connect(access)).rejects.toMatchObject({ code: 'EPROTO' });
  });

  it('disposing resets the device, takes bus mastering and MSI-X away, and frees the vectors', async () => {
    const { machine, loops } = bench({ vectorCountMax: 3 });
    const link = await machine.connect();
    await loops.run(initializeDevice(link, { aio: loops.driverAio, wanted: 0n }));
    await loops.run(link[Symbol.asyncDispose]());
    expect(machine.host.status).toBe(0);
    expect(machine.bus.configRead(machine.bdf, PCI_COMMAND, 2)).toBe(PCI_COMMAND_MEMORY);
    expect(machine.bus.configRead(machine.bdf, MSIX_CAPABILITY + 2, 2) & PCI_MSIX_FLAGS_ENABLE).toBe(0);
    await expect(link.transport.readStatus()).rejects.toMatchObject({ code: 'ENODEV' });
    const again = await machine.connect();
    expect(again.transport.callMode).toBe('msix-per-queue');
  });
});

describe('registers as the driver uses them (§4.1.4.3, §4.1.5.1)', () => {
  it('§4.1.5.1.3 enabling a queue writes it in order, 64-bit fields as two halves, and enables last', async () => {
    const trace: string[] = [];
    const name = (address: number): string => {
      const offset = address - BAR4;
      const found = Object.entries(at).findLast(([, start]) => start <= offset)!;
      return found[1] === offset ? found[0] : `${found[0]}+${offset - found[1]}`;
    };
    const { machine, access } = bench(
      {},
      {
        memoryWrite: (address, width, value) => {
          if (address >= BAR4 && address < BAR4 + 64)
            trace.push(`${name(address)}/${width}=0x${value.toString(16)}`);
          return false;
        },
      },
    );
    const { transport } = await machine.connect(access);
    await transport.writeStatus(1);
    await transport.writeStatus(3);
    await transport.writeDriverFeatures(1n << 32n);
    await transport.writeStatus(11);
    trace.length = 0;
    await transport.enableQueue(1, { ...queueAddresses, deviceArea: 0x3000n });
    expect(trace).toEqual([
      'config_msix_vector/2=0x0',
      'queue_select/2=0x1',
      'queue_size/2=0x8',
      'queue_desc/4=0x1000',
      'queue_desc+4/4=0x0',
      'queue_driver/4=0x2000',
      'queue_driver+4/4=0x0',
      'queue_device/4=0x3000',
      'queue_device+4/4=0x0',
      'queue_select/2=0x1',
      'queue_msix_vector/2=0x2',
      'queue_select/2=0x1',
      'queue_enable/2=0x1',
    ]);
    expect(machine.host.isQueueEnabled(1)).toBe(true);
  });

  it('§4.1.4.4 a kick is a 16-bit write of the queue index at offset + queue_notify_off × multiplier', async () => {
    const kicks: number[][] = [];
    const { machine, access, loops } = bench(
      {},
      {
        memoryRead: (address, _, value) => (address === BAR4 + at.queue_notify_off ? 7 : value),
        memoryWrite: (address, width, value) => {
          if (address >= BAR4 + NOTIFY_OFFSET && address < BAR4 + 0x4000)
            kicks.push([address - BAR4, width, value]);
          return false;
        },
      },
    );
    const { transport } = await machine.connect(access);
    transport.kick(1);
    const session = await loops.run(
      initializeDevice(
        { transport, dma: machine.dma, [Symbol.asyncDispose]: async () => undefined },
        { aio: loops.driverAio, wanted: 0n },
      ),
    );
    transport.kick(1);
    expect(kicks).toEqual([[NOTIFY_OFFSET + 28, 2, 1]]);
    await loops.run(session.stop());
    transport.kick(1);
    expect(kicks).toHaveLength(1);
  });

  it('§4.1.4.4.1 a kick address outside the structure is refused: EPROTO', async () => {
    const { machine, access } = bench(
      {},
      {
        memoryRead: (address, _, value) => (address === BAR4 + at.queue_notify_off ? 0x400 : value),
      },
    );
    const { transport } = await machine.connect(access);
    await expect(transport.enableQueue(0, queueAddresses)).rejects.toMatchObject({ code: 'EPROTO' });
  });

  it('a queue that the device does not enable rejects: EIO', async () => {
    const { machine } = bench();
    const { transport } = await machine.connect();
    await expect(transport.enableQueue(0, queueAddresses)).rejects.toMatchObject({ code: 'EIO' });
    await expect(transport.enableQueue(2, queueAddresses)).rejects.toThrow(RangeError);
  });

  it('§4.1.3.1 configuration is read and written in the widest aligned accesses', async () => {
    const widths: string[] = [];
    const { machine, access } = bench(
      {},
      {
        memoryRead: (address, width, value) => {
          if (address >= BAR4 + 0x2000) widths.push(`${address - BAR4 - 0x2000}/${width}`);
          return value;
        },
      },
    );
    const { transport } = await machine.connect(access);
    const bytes = new Uint8Array(11);
    await transport.readConfigBytes(1, bytes);
    expect([...bytes]).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    expect(widths).toEqual(['1/1', '2/2', '4/4', '8/4']);
    await expect(transport.readConfigBytes(0xfff, bytes)).rejects.toMatchObject({ code: 'EPROTO' });
    await expect(transport.readConfigBytes(-1, bytes)).rejects.toThrow(RangeError);
  });
});

describe('call modes (§4.1.5.1.2)', () => {
  const refuse = (isRefused: (vector: number) => boolean): Tampering => ({
    memoryRead: (address, _, value) => {
      const isVector = address === BAR4 + at.config_msix_vector || address === BAR4 + at.queue_msix_vector;
      return isVector && isRefused(value) ? VIRTIO_MSI_NO_VECTOR : value;
    },
  });

  it.each([
    ['a third vector', 'msix-shared', (vector: number) => vector > 1],
    ['a second vector', 'intx', (vector: number) => vector > 0],
    ['any vector', 'intx', () => true],
  ] as const)(
    '§4.1.5.1.2.2 a device that does not take %s ends up with %s and still calls',
    async (_what, mode, isRefused) => {
      const { machine, access, loops } = bench({}, refuse(isRefused));
      const link = await machine.connect(access);
      const session = await loops.run(
        initializeDevice(link, { aio: loops.driverAio, wanted: 0n, polling: false }),
      );
      expect(link.transport.callMode).toBe(mode);
      expect(link.transport.capabilities.callPerQueue).toBe(false);
      const called = [0, 0];
      link.transport.onCall(0, () => void called[0]!++);
      link.transport.onCall(1, () => void called[1]!++);
      machine.pciFunction.call(1);
      await loops.settle();
      expect(called).toEqual([1, 1]);
      await loops.run(session.stop());
      await loops.run(link[Symbol.asyncDispose]());
      expect(await machine.close()).toEqual([]);
    },
  );

  it('§4.1.5.1.2.2 a device with neither enough vectors nor a line is refused: ENOTSUP', async () => {
    const late = bench(
      { withoutIntx: true },
      refuse(() => true),
    );
    const { transport } = await late.machine.connect(late.access);
    await expect(transport.enableQueue(0, queueAddresses)).rejects.toMatchObject({ code: 'ENOTSUP' });
    const early = bench({}, { configRead: (offset, _, value) => (offset === PCI_INTERRUPT_PIN ? 0 : value) });
    const none = bench(
      { vectorCountMax: 0 },
      { configRead: (offset, _, v) => (offset === PCI_INTERRUPT_PIN ? 0 : v) },
    );
    expect((await early.machine.connect(early.access)).transport.callMode).toBe('msix-per-queue');
    await expect(none.machine.connect(none.access)).rejects.toMatchObject({ code: 'ENOTSUP' });
  });

  it.each([
    ['a vector each', {}],
    ['shared vectors', { vectorCount: 2 }],
    ['INTx', { vectorCountMax: 0 }],
  ])(
    '§4.1.5.4 a configuration change reaches its handler with %s, after each reset',
    async (_what, options) => {
      const { machine, loops } = bench(options);
      const { transport } = await machine.connect();
      let changes = 0;
      transport.onConfigChange(() => void changes++);
      for (const life of [1, 2, 3]) {
        await loops.run(transport.writeStatus(0));
        await transport.writeStatus(15);
        machine.pciFunction.configChanged();
        await loops.settle();
        expect(changes).toBe(life);
      }
    },
  );
});

describe('reset (§4.1.4.3.2)', () => {
  it('§4.1.4.3.2 waits until the status reads 0', async () => {
    const { machine, loops, device } = bench();
    const link = await machine.connect();
    await loops.run(initializeDevice(link, { aio: loops.driverAio, wanted: 0n }));
    const held = Promise.withResolvers<void>();
    device.resetHeld = held.promise;
    let isReset = false;
    const reset = link.transport.writeStatus(0).then(() => void (isReset = true));
    await loops.settle();
    expect(isReset).toBe(false);
    held.resolve();
    await loops.run(reset);
    expect(isReset).toBe(true);
  });

  it('a device that never finishes is reported: ETIMEDOUT, after the time given', async () => {
    const { machine, access, loops } = bench(
      {},
      {
        memoryRead: (address, _, value) => (address === BAR4 + at.device_status ? 1 : value),
      },
    );
    const { transport } = await machine.connect(access, 100);
    const started = loops.driverAio.now();
    await expect(loops.run(transport.writeStatus(0))).rejects.toMatchObject({ code: 'ETIMEDOUT' });
    expect(loops.driverAio.now() - started).toBeGreaterThanOrEqual(100);
    await loops.run(transport[Symbol.asyncDispose]());
    expect(loops.driverAio.leaks()).toEqual([]);
  });

  it('a status of all ones from a device that is there is nonsense: EIO', async () => {
    const { machine, access } = bench(
      {},
      {
        memoryRead: (address, _, value) => (address === BAR4 + at.device_status ? 0xff : value),
      },
    );
    const { transport } = await machine.connect(access);
    await expect(transport.readStatus()).rejects.toMatchObject({ code: 'EIO' });
  });
});

describe('a device that disappears', () => {
  it('every operation rejects with ENODEV, kicks are silent, onGone runs once', async () => {
    const { machine, loops } = bench();
    const { transport } = await machine.connect();
    const reasons: string[] = [];
    transport.onGone((reason) => void reasons.push(reason));
    await machine.removeDevice();
    expect(reasons).toEqual([]);
    await loops.settle();
    expect(reasons).toEqual(['The device was removed']);
    const operations = [
      transport.readDeviceFeatures(),
      transport.writeDriverFeatures(1n),
      transport.readStatus(),
      transport.writeStatus(1),
      transport.writeStatus(0),
      transport.readQueueSizeMax(0),
      transport.enableQueue(0, queueAddresses),
      transport.readConfigBytes(0, new Uint8Array(4)),
      transport.readConfigGeneration(),
      transport.writeConfigBytes(0, new Uint8Array(4)),
    ];
    for (const outcome of await Promise.allSettled(operations)) {
      expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'ENODEV' } });
    }
    transport.kick(0);
    transport.onGone((reason) => void reasons.push(reason));
    await loops.settle();
    expect(reasons).toHaveLength(2);
    await loops.run(transport[Symbol.asyncDispose]());
    expect(await machine.close()).toEqual([]);
  });

  it.each([
    ['a register read', (t: VirtioPciDriverTransport) => t.readStatus()],
    ['a write', (t: VirtioPciDriverTransport) => t.writeStatus(1)],
    ['a reset', (t: VirtioPciDriverTransport) => t.writeStatus(0)],
  ])('all ones are noticed by %s without a hotplug event', async (_what, operate) => {
    const tampering: Tampering = {};
    const { machine, access, loops } = bench({}, tampering);
    const { transport } = await machine.connect(access);
    const reasons: string[] = [];
    transport.onGone((reason) => void reasons.push(reason));
    tampering.configRead = (_offset, width) => 2 ** (8 * width) - 1;
    tampering.memoryRead = (_address, width) => 2 ** (8 * width) - 1;
    await expect(loops.run<unknown>(operate(transport))).rejects.toMatchObject({ code: 'ENODEV' });
    await loops.settle();
    expect(reasons).toEqual(['PCI function 00:03.0 does not answer']);
  });

  it('all ones are noticed by the interrupt handler', async () => {
    const tampering: Tampering = {};
    const { machine, access, loops } = bench({ vectorCountMax: 0 }, tampering);
    const { transport } = await machine.connect(access);
    let isGone = false;
    transport.onGone(() => void (isGone = true));
    tampering.configRead = (_offset, width) => 2 ** (8 * width) - 1;
    tampering.memoryRead = (_address, width) => 2 ** (8 * width) - 1;
    machine.interrupts.line(machine.bdf).set(true);
    await loops.settle();
    expect(isGone).toBe(true);
  });
});

describe('any device', () => {
  it('a device that lies in configuration space and registers meets a TransportError or works; nothing hangs or leaks', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer(), fc.integer({ min: 0, max: 50 }), async (seed, percent) => {
        const rate = percent / 100;
        const prng = createPrng(seed);
        const corrupt = (width: number, value: number): number =>
          prng.fraction() < rate ? prng.below(2 ** (8 * width)) : value;
        const lies = new Map<number, number>();
        const { machine, access, loops } = bench(
          {},
          {
            configRead: (offset, width, value) => {
              // The identity stays, so that the driver gets past the door; the rest lies, the same way each time.
              if (offset < PCI_COMMAND || offset === PCI_HEADER_TYPE) return value;
              const key = offset * 8 + width;
              if (!lies.has(key))
                lies.set(key, prng.fraction() < rate / 4 ? prng.below(2 ** (8 * width)) : -1);
              const lie = lies.get(key)!;
              return lie < 0 ? value : lie;
            },
            memoryRead: (_address, width, value) => corrupt(width, value),
          },
        );
        const attempt = async (): Promise<void> => {
          const link = await machine.connect(access, 50);
          try {
            const options = { aio: loops.driverAio, wanted: 0n, queueCount: 1, timeoutMs: 200 };
            const session = await initializeDevice(link, options);
            await session.stop();
          } finally {
            await link[Symbol.asyncDispose]();
          }
        };
        const error = await loops.run(
          attempt().then(
            () => undefined,
            (reason: unknown) => reason,
          ),
        );
        if (error !== undefined && !(error instanceof TransportError)) throw error;
        await loops.settle();
        expect(loops.driverAio.leaks()).toEqual([]);
      }),
      { numRuns: 150 },
    );
  });
});

describe('any driver', () => {
  it('whatever was written to a device, a reset makes it work again', async () => {
    const place = fc.oneof(
      fc.constantFrom(...Object.values(at)).map((offset) => BAR4 + offset),
      fc.integer({ min: BAR4, max: BAR4 + 0x4000 }),
    );
    const value = fc.oneof(
      fc.integer({ min: 0, max: 16 }),
      fc.constantFrom(0xf, 0x1000, 0xffff, 0xffff_ffff),
    );
    const write = fc.record({ place, value, width: fc.constantFrom<AccessWidth>(1, 2, 4) });
    await fc.assert(
      fc.asyncProperty(fc.array(write, { maxLength: 60 }), async (writes) => {
        const { machine, loops } = bench();
        const link = await machine.connect();
        for (const { place: address, value: word, width } of writes) {
          machine.bus.memoryWrite(address, width, word % 2 ** (8 * width));
        }
        await loops.settle();
        const options = { aio: loops.driverAio, wanted: 0n };
        const session = await loops.run(initializeDevice(link, options));
        await loops.run(session.stop());
        await loops.run(link[Symbol.asyncDispose]());
        expect(await machine.close()).toEqual([]);
      }),
    );
  });
});
