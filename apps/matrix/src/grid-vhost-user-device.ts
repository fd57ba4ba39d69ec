// The device's process of the vhost-user cells: one socket for each device of the grid, in the folder that it is given.
import { openFdCount } from '@virtlab/linux';
import { listenVhostUser } from '@virtlab/vhost-user';
import { DEVICES } from './exercises.ts';
import type { DoorbellName } from './grid.ts';
import { DeviceSide, moreFds } from './vhost-user-cell.ts';
import { type DeviceProgramReport, socketPath } from './vhost-user-machine.ts';

const [folder, doorbells] = process.argv.slice(2) as [string, DoorbellName];
const tell = (report: DeviceProgramReport): void => void process.send!(report);

const fdCount = openFdCount();
const side = new DeviceSide(doorbells);
const listeners = DEVICES.map((device) =>
  listenVhostUser({
    path: socketPath(folder, device),
    serve: (stream) => side.serve(stream, device),
    onEnd: ({ fault, error }) => {
      const problem = fault?.message ?? error;
      if (problem !== undefined) console.error(`${device}: connection ended: ${String(problem)}`);
    },
  }),
);

async function close(): Promise<void> {
  for (const listener of listeners) await listener.close();
  tell({ event: 'closed', leaks: [...side.close(), ...moreFds(fdCount)] });
  process.disconnect();
}

process.on('message', () => void close());
process.on('disconnect', () => process.exit());
tell({ event: 'listening' });
