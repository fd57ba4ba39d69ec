import { linuxFfi } from '@virtlab/linux';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DEVICES } from './exercises.ts';
import { type Cell, memoryCell, systemCell } from './in-process.ts';
import { type GridMachine, startGridMachine } from './processes.ts';

const ffi = linuxFfi();
if (!ffi.available && process.env['VIRTLAB_REQUIRE_PEERS'] === '1') throw new Error(ffi.reason);

const IN_PROCESS: readonly (readonly [string, Cell])[] = [
  ['memory', memoryCell],
  ['pci', systemCell('pci')],
  ['xenbus', systemCell('xenbus')],
];

describe.each(IN_PROCESS)('%s, in one process', (_transport, cell) => {
  it.each(DEVICES)('%s does its work and leaves nothing', async (device) => {
    expect(await cell(device)).toEqual([]);
  });
});

/** The in-memory transport is two halves of one object: it has no form across processes. */
describe.skipIf(!ffi.available).each(['pci', 'xenbus'] as const)('%s, domains as processes', (bus) => {
  let machine: GridMachine;
  beforeAll(async () => {
    machine = await startGridMachine();
  });
  afterAll(async () => {
    expect(await machine.close()).toEqual([]);
  });

  it.each(DEVICES)('%s does its work and leaves nothing', async (device) => {
    expect(await machine.cell(bus, device)).toEqual([]);
  });
});
