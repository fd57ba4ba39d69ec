import { expect } from 'vitest';
import { VIRTIO_ID_CONSOLE } from '@virtlab/abi/virtio';
import { type AioContext, createAioContext } from '@virtlab/aio';
import type { DoorbellPolicy } from '@virtlab/aio/simulated';
import type { VirtioDevice } from '@virtlab/virtio';
import { describeTransport, type TransportUnderTest } from '@virtlab/virtio/conformance';
import { SimulatedLoops } from '@virtlab/virtio/testing';
import type { CallMode } from './call-routing.ts';
import { PciMachine, type PciMachineOptions } from './testing/pci-machine.ts';

interface Variant {
  readonly name: string;
  readonly options: Omit<PciMachineOptions, 'device' | 'driverAio' | 'deviceAio'>;
  readonly callMode: CallMode;
  readonly deliver: DoorbellPolicy['name'];
}

const variants: readonly Variant[] = [
  { name: 'a vector each', options: {}, callMode: 'msix-per-queue', deliver: 'calm' },
  {
    name: 'a vector each, doorbells',
    options: { doorbells: true },
    callMode: 'msix-per-queue',
    deliver: 'late',
  },
  {
    name: 'shared vectors',
    options: { vectorCount: 2, doorbells: true },
    callMode: 'msix-shared',
    deliver: 'coalescing',
  },
  {
    name: 'no INTx',
    options: { withoutIntx: true, doorbells: true },
    callMode: 'msix-per-queue',
    deliver: 'spurious',
  },
  { name: 'INTx', options: { vectorCountMax: 0 }, callMode: 'intx', deliver: 'calm' },
  {
    name: 'INTx, doorbells',
    options: { vectorCountMax: 0, doorbells: true },
    callMode: 'intx',
    deliver: 'late',
  },
  {
    name: 'INTx, one vector',
    options: { vectorCount: 1, doorbells: true },
    callMode: 'intx',
    deliver: 'spurious',
  },
  {
    name: 'no MSI-X, a page for each kick address',
    options: { vectorCount: 0, notifyMultiplier: 4096, doorbells: true },
    callMode: 'intx',
    deliver: 'coalescing',
  },
  {
    name: 'one kick address for all queues',
    options: { notifyMultiplier: 0, doorbells: true },
    callMode: 'msix-per-queue',
    deliver: 'calm',
  },
  {
    name: 'registers through the window',
    options: { registers: 'window' },
    callMode: 'intx',
    deliver: 'late',
  },
  {
    name: 'transitional, by its modern interface',
    options: { interfaceKind: 'transitional' },
    callMode: 'msix-per-queue',
    deliver: 'calm',
  },
  {
    name: 'transitional, by its legacy interface',
    options: { interfaceKind: 'transitional', registers: 'legacy' },
    callMode: 'msix-per-queue',
    deliver: 'late',
  },
  {
    name: 'legacy, INTx',
    options: { interfaceKind: 'legacy', registers: 'legacy', vectorCount: 0 },
    callMode: 'intx',
    deliver: 'spurious',
  },
];

const SEED = 20_240_917;

interface Loops {
  readonly driverAio: AioContext;
  readonly deviceAio: AioContext;
  settle(): Promise<void>;
  [Symbol.dispose](): void;
}

/** The suite's device has a type of its own, which never had a legacy interface: it gets another. */
function giveLegacyType(device: VirtioDevice): void {
  Object.defineProperty(device, 'deviceType', { value: VIRTIO_ID_CONSOLE });
}

async function create(variant: Variant, device: VirtioDevice, loops: Loops): Promise<TransportUnderTest> {
  const { driverAio, deviceAio } = loops;
  if (variant.options.interfaceKind !== undefined) giveLegacyType(device);
  const machine = new PciMachine({ device, driverAio, deviceAio, ...variant.options });
  const link = await machine.connect();
  expect(link.transport.callMode).toBe(variant.callMode);
  return {
    link,
    driverAio,
    host: machine.host,
    settle: () => loops.settle(),
    removeDevice: () => machine.removeDevice(),
    close: async () => {
      await link[Symbol.asyncDispose]();
      const held = await machine.close();
      loops[Symbol.dispose]();
      return held;
    },
  };
}

/** Two loops on the platform's own timers, one millisecond at a time. */
function platformLoops(): Loops {
  const driverAio = createAioContext();
  const deviceAio = createAioContext();
  return {
    driverAio,
    deviceAio,
    settle: () => new Promise((resolve) => void setTimeout(resolve, 1)),
    [Symbol.dispose]: () => {
      driverAio[Symbol.dispose]();
      deviceAio[Symbol.dispose]();
    },
  };
}

for (const variant of variants) {
  describeTransport({
    name: `pci, ${variant.name}, ${variant.deliver} delivery, seed ${SEED}`,
    create: ({ device }) => create(variant, device, new SimulatedLoops(SEED, variant.deliver)),
    ...(variant.name === 'a vector each' ? { enduranceCount: 70_000 } : {}),
  });
}

describeTransport({
  name: 'pci, a vector each, doorbells, loops of the platform',
  create: ({ device }) => create(variants[1]!, device, platformLoops()),
});
