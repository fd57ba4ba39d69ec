import { DEVICES } from './exercises.ts';
import {
  type Cell,
  DOORBELLS,
  type GridMachine,
  type ProcessTransport,
  RINGS,
  type TransportName,
} from './grid.ts';
import { type SimulatedCell, runCell } from './in-process.ts';
import { startGridMachine } from './processes.ts';
import type { GridReport } from './report.ts';
import { startVhostUserMachine } from './vhost-user-machine.ts';
import { runVhostUserCell } from './vhost-user-cell.ts';

/** Every cell of a transport in one thread. Rejects, naming the cell, at the first that fails. */
export async function runInThread(transport: TransportName, report: GridReport): Promise<void> {
  for (const cell of cells(transport)) {
    report.add('thread', cell, await named(cell, inThread(cell)));
  }
}

function inThread(cell: Cell): ReturnType<typeof runCell> {
  return cell.transport === 'vhost-user' ? runVhostUserCell(cell) : runCell(cell as SimulatedCell);
}

/** Every cell of a transport whose doorbells are such, between processes. */
export async function runInProcesses(
  transport: ProcessTransport,
  doorbells: Cell['doorbells'],
  report: GridReport,
): Promise<void> {
  const machine: GridMachine =
    transport === 'vhost-user'
      ? await startVhostUserMachine(doorbells)
      : await startGridMachine(transport, doorbells);
  try {
    for (const cell of cells(transport)) {
      if (cell.doorbells !== doorbells) continue;
      report.add('processes', cell, await named(cell, machine.cell(cell.device, cell.ring)));
    }
  } catch (error) {
    await machine.kill();
    throw error;
  }
  await machine.close();
}

function cells(transport: TransportName): readonly Cell[] {
  return DEVICES.flatMap((device) =>
    DOORBELLS.flatMap((doorbells) => RINGS.map((ring) => ({ transport, ring, device, doorbells }))),
  );
}

async function named<T>({ transport, ring, device, doorbells }: Cell, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    throw new Error(`${transport}, ${ring.name}, ${device}, ${doorbells} doorbells: ${message}`, { cause });
  }
}
