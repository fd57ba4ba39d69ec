import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PCI_COMMAND, PCI_COMMAND_IO, PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY } from '@virtlab/abi/pci';
import { VIRTIO_F_RING_RESET } from '@virtlab/abi/virtio';
import { VIRTIO_PCI_COMMON_CFG } from '@virtlab/abi/virtio-pci';
import { initializeDevice } from '@virtlab/virtio';
import { SimulatedLoops } from '@virtlab/virtio/testing';
import type { AccessWidth } from './pci-function.ts';
import { EchoDevice } from './testing/echo-device.ts';
import { MSIX_CAPABILITY, NOTIFY_OFFSET, WINDOW_CAPABILITY } from './testing/function-fixture.ts';
import { PciMachine, type PciMachineOptions } from './testing/pci-machine.ts';

const RUNS = Math.ceil(80 * Number(process.env['VIRTLAB_CAMPAIGN'] ?? 1));
const SEED = Number(process.env['VIRTLAB_SEED'] ?? Date.now() % 2 ** 31);

/** Where firmware put the BARs, as long as nobody moves them. */
const BAR4 = 0xe000_0000;
const BAR1 = 0xe000_4000;
const PORTS = 0xc000;
const MEMORY_SIZE = 8 << 20;

type Space = 'config' | 'memory' | 'port';
interface Access {
  readonly space: Space;
  readonly isWrite: boolean;
  readonly at: number;
  readonly width: 1 | 2 | 4 | 8;
  readonly value: number;
}

const { offset: common } = VIRTIO_PCI_COMMON_CFG;
const places: Readonly<Record<Space, fc.Arbitrary<number>>> = {
  config: fc.oneof(
    fc.constantFrom(PCI_COMMAND, 0x10, 0x14, 0x20, 0x24, MSIX_CAPABILITY + 2),
    fc.integer({ min: WINDOW_CAPABILITY + 4, max: WINDOW_CAPABILITY + 19 }),
    fc.integer({ min: 0, max: 300 }),
  ),
  memory: fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom(...Object.values(common)).map((offset) => BAR4 + offset) },
    { weight: 2, arbitrary: fc.integer({ min: 0, max: 4 }).map((queue) => BAR4 + NOTIFY_OFFSET + 4 * queue) },
    { weight: 2, arbitrary: fc.integer({ min: 0, max: 15 }).map((word) => BAR1 + 4 * word) },
    { weight: 2, arbitrary: fc.integer({ min: BAR4, max: BAR1 + 0x1010 }) },
  ),
  port: fc.oneof(fc.integer({ min: PORTS, max: PORTS + 70 }), fc.integer({ min: 0, max: 0xffff })),
};
/** Small ones are selectors and status; others are addresses, in and out of memory, and everything else. */
const value = fc.oneof(
  { weight: 4, arbitrary: fc.integer({ min: 0, max: 16 }) },
  { weight: 3, arbitrary: fc.integer({ min: 0, max: MEMORY_SIZE / 4096 }).map((page) => page * 4096) },
  fc.constantFrom(PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 0xffff, 0xffff_ffff, 0x8000),
  fc.integer({ min: 0, max: 0xffff_ffff }),
);
const access: fc.Arbitrary<Access> = fc
  .constantFrom<Space>('memory', 'memory', 'memory', 'config', 'port')
  .chain((space) =>
    fc.record({
      space: fc.constant(space),
      isWrite: fc.boolean(),
      at: places[space],
      width: fc.constantFrom(1, 2, 2, 4, 4, ...(space === 'memory' ? ([8] as const) : [])),
      value,
    }),
  );

/** Performs one access; what a read answers must be a number of its width. */
function perform(
  bus: PciMachine['bus'],
  bdf: number,
  { space, isWrite, at, width, value: word }: Access,
): void {
  if (width === 8) {
    if (isWrite) bus.memoryWrite64(at, (BigInt(word) << 32n) | BigInt(word));
    else requireWidth(bus.memoryRead64(at), width);
    return;
  }
  const size: AccessWidth = width;
  const cut = word % 2 ** (8 * size);
  if (isWrite) {
    if (space === 'config') bus.configWrite(bdf, at, size, cut);
    else if (space === 'memory') bus.memoryWrite(at, size, cut);
    else bus.portWrite(at, size, cut);
    return;
  }
  const read =
    space === 'config'
      ? bus.configRead(bdf, at, size)
      : space === 'memory'
        ? bus.memoryRead(at, size)
        : bus.portRead(at, size);
  requireWidth(read, width);
}

function requireWidth(read: number | bigint, width: number): void {
  const isWhole = typeof read === 'bigint' || Number.isInteger(read);
  if (!isWhole || read < 0 || read >= 2n ** BigInt(8 * width))
    throw new Error(`Read ${read} in ${width} bytes`);
}

/** An echo device that resets its queues alone, in time or late. */
class ResettableDevice extends EchoDevice {
  readonly late: PromiseWithResolvers<void>[] = [];

  resetQueue(queue: number): void | Promise<void> {
    if (queue === 0) return undefined;
    const done = Promise.withResolvers<void>();
    this.late.push(done);
    return done.promise;
  }
}

const kinds: readonly [string, Partial<PciMachineOptions>][] = [
  ['modern', {}],
  ['modern, doorbells, a page for each kick address', { doorbells: true, notifyMultiplier: 4096 }],
  ['modern, one kick address, no MSI-X', { notifyMultiplier: 0, vectorCount: 0 }],
  ['transitional', { interfaceKind: 'transitional' }],
  ['legacy', { interfaceKind: 'legacy', registers: 'legacy' }],
];

describe(`hostile drivers, seed ${SEED}`, () => {
  it.each(kinds)(
    'any accesses of any width anywhere: nothing throws or hangs, and a reset gives a device that works (%s)',
    async (_kind, options) => {
      await fc.assert(
        fc.asyncProperty(
          fc.array(access, { maxLength: 150 }),
          fc.boolean(),
          fc.integer(),
          async (accesses, isLive, seed) => {
            const loops = new SimulatedLoops(seed);
            const { driverAio, deviceAio } = loops;
            const device = new ResettableDevice();
            const machine = new PciMachine({ device, driverAio, deviceAio, ...options });
            const { bus, bdf, host } = machine;
            bus.configWrite(bdf, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
            if (isLive && options.interfaceKind !== 'legacy') bringUp(machine);
            for (const [index, each] of accesses.entries()) {
              perform(bus, bdf, each);
              if (index % 16 === 0) await loops.settle();
            }
            for (const done of device.late) done.resolve();
            await loops.settle();
            expect(incoherences(host)).toEqual([]);
            expect(await revive(machine, loops)).toEqual({ leaks: [], hasCalled: true });
          },
        ),
        { numRuns: RUNS, seed: SEED },
      );
    },
  );
});

/** By its registers, with both queues and RING_RESET: where most rules about a live device begin. */
function bringUp({ bus, host }: PciMachine): void {
  const write = (field: keyof typeof common, width: AccessWidth, word: number): void =>
    bus.memoryWrite(BAR4 + common[field], width, word);
  write('device_status', 1, 1);
  write('device_status', 1, 3);
  write('driver_feature_select', 4, 1);
  write('driver_feature', 4, 1 | (1 << (VIRTIO_F_RING_RESET - 32)));
  write('device_status', 1, 11);
  for (const queue of [0, 1]) {
    const base = 0x10_0000 * (queue + 1);
    write('queue_select', 2, queue);
    write('queue_desc', 4, base);
    write('queue_driver', 4, base + 0x1000);
    write('queue_device', 4, base + 0x2000);
    write('queue_msix_vector', 2, queue + 1);
    write('queue_enable', 2, 1);
  }
  write('device_status', 1, 15);
  if (host.status !== 15) throw new Error(`The device came up with status ${host.status}`);
}

/** Steps of the status come into force in order, and queues only once features are agreed on. */
function incoherences(host: PciMachine['host']): string[] {
  const { status } = host;
  const steps = [1, 2, 8, 4].map((step) => (status & step) !== 0);
  const isOrdered = steps.every((isSet, index) => !isSet || index === 0 || steps[index - 1] === true);
  const hasQueue = [0, 1].some((queue) => host.isQueueEnabled(queue));
  return [
    ...(isOrdered ? [] : [`status ${status}`]),
    ...(hasQueue && (status & 8) === 0 ? ['a queue without FEATURES_OK'] : []),
  ];
}

/** Firmware places the BARs again, a driver connects and uses the device. */
async function revive(
  machine: PciMachine,
  loops: SimulatedLoops,
): Promise<{ readonly leaks: readonly string[]; readonly hasCalled: boolean }> {
  machine.placeBars();
  const link = await machine.connect();
  const session = await loops.run(initializeDevice(link, { aio: loops.driverAio, wanted: 0n }));
  let hasCalled = false;
  link.transport.onCall(0, () => void (hasCalled = true));
  machine.pciFunction.call(0);
  await loops.settle();
  await loops.run(session.stop());
  await loops.run(link[Symbol.asyncDispose]());
  return { leaks: await machine.close(), hasCalled };
}
