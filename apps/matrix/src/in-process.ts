import { type Simulation, createSimulation } from '@virtlab/aio/simulated';
import { type DeviceBus, connectDevices } from '@virtlab/domain';
import { createLocalSystem } from '@virtlab/domain/testing';
import { memoryRegion } from '@virtlab/guest-memory';
import { DeviceHost, type DriverLink } from '@virtlab/virtio';
import { createMemoryTransport } from '@virtlab/virtio/memory';
import { EXERCISES } from './exercises.ts';
import { createDevice } from './fixtures.ts';
import { type Cell, type CellResult, NOT_OFFERED, type TransportName } from './grid.ts';
import { inVirtualTime } from './virtual-time.ts';

const MEMORY_SIZE = 16 << 20;
const LIMIT_MS = 600_000;

/** A cell that a virtual clock can run: one without descriptors, which only the kernel makes readable. */
export interface SimulatedCell extends Cell {
  readonly transport: Exclude<TransportName, 'vhost-user'>;
}

/**
 * Runs a cell in one thread on a virtual clock. Rejects with what went wrong, or with what was left behind. Doorbells
 * arrive as the cell says; the seed decides the rest.
 */
export async function runCell(cell: SimulatedCell, seed: number = 1): Promise<CellResult> {
  const simulation = createSimulation({ seed, deliver: cell.doorbells });
  const work =
    cell.transport === 'memory' ? memoryCell(simulation, cell) : systemCell(simulation, cell.transport, cell);
  return await inVirtualTime(simulation, work, LIMIT_MS);
}

/** Driver and device on the in-memory reference transport. */
async function memoryCell(simulation: Simulation, cell: Cell): Promise<CellResult> {
  const [driverAio, deviceAio] = [simulation.createContext('driver'), simulation.createContext('device')];
  const host = new DeviceHost({ device: createDevice(cell.device), aio: deviceAio });
  const memory = memoryRegion(new ArrayBuffer(MEMORY_SIZE));
  const { link } = createMemoryTransport({ host, memory, driverAio, deviceAio });
  const result = await exercise(cell, link, driverAio);
  await link[Symbol.asyncDispose]();
  await host.detach();
  requireNothing([...driverAio.leaks(), ...deviceAio.leaks()]);
  return result;
}

/** Domain 0 and a domU in one thread, on ordinary buffers. */
async function systemCell(simulation: Simulation, bus: DeviceBus, cell: Cell): Promise<CellResult> {
  const system = await createLocalSystem((domain) => simulation.createContext(`domain ${domain}`));
  const { domain, store } = await system.addGuest('u', bus === 'pci' ? 'hvm' : 'pv', (guest) =>
    system.services.devices.plug(
      guest,
      0,
      createDevice(cell.device),
      cell.device,
      bus === 'pci' ? undefined : bus,
    ),
  );
  const links = await connectDevices(domain, store, bus);
  const [link] = links.byType.values();
  const result = await exercise(cell, link!, domain.aio);
  await links[Symbol.asyncDispose]();
  requireNothing(domain.leaks());
  requireNothing(await system.close());
  return result;
}

/** With the ring of the cell, or not at all. */
export async function exercise(
  { ring, device }: Pick<Cell, 'ring' | 'device'>,
  link: DriverLink,
  aio: Parameters<(typeof EXERCISES)[typeof device]>[1],
): Promise<CellResult> {
  const offered = await link.transport.readDeviceFeatures();
  if ((offered & ring.features) !== ring.features) return NOT_OFFERED;
  await EXERCISES[device](link, aio, ring.features);
  return 'ok';
}

export function requireNothing(leaks: readonly string[]): void {
  if (leaks.length > 0) throw new Error(`Left behind: ${leaks.join(', ')}`);
}
