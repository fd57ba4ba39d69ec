import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openFdCount } from '@virtlab/linux';
import type { DoorbellName, GridMachine } from './grid.ts';
import { requireNothing } from './in-process.ts';
import { programUrl } from './processes.ts';
import { driveCell, moreFds } from './vhost-user-cell.ts';

/** What the device's process says: that it listens, or, after `close`, what it still has. */
export type DeviceProgramReport =
  | { readonly event: 'listening' }
  | { readonly event: 'closed'; readonly leaks: readonly string[] };

/** Where the device of that name is served in a folder. */
export function socketPath(folder: string, device: string): string {
  return join(folder, `${device}.sock`);
}

/** The devices in a process of their own that listens at a path for each; the driver is in this one. */
export async function startVhostUserMachine(doorbells: DoorbellName): Promise<GridMachine> {
  const folder = mkdtempSync(join(tmpdir(), 'virtlab-grid-'));
  const child = fork(fileURLToPath(programUrl('grid-vhost-user-device')), [folder, doorbells], {
    execArgv: ['--conditions=@virtlab/source'],
  });
  const ended = once(child, 'exit');
  const clean = (): void => rmSync(folder, { recursive: true, force: true });
  await report(child, ended, 'listening');
  const fdCount = openFdCount();
  return {
    cell: async (device, ring) => {
      const work = driveCell({ device, ring, doorbells }, { path: socketPath(folder, device) });
      const result = await Promise.race([work, failedAt(ended)]);
      requireNothing(moreFds(fdCount));
      return result;
    },
    close: async () => {
      const closed = report(child, ended, 'closed');
      child.send('close');
      const { leaks } = await closed;
      await ended;
      clean();
      requireNothing(leaks);
    },
    kill: async () => {
      child.kill('SIGKILL');
      await ended;
      clean();
    },
  };
}

async function report<Name extends DeviceProgramReport['event']>(
  child: ChildProcess,
  ended: Promise<unknown>,
  event: Name,
): Promise<DeviceProgramReport & { readonly event: Name }> {
  const message = once(child, 'message').then(([said]) => said as DeviceProgramReport);
  const said = await Promise.race([message, failedAt(ended)]);
  if (said.event !== event) throw new Error(`The device's process said ${said.event}, not ${event}`);
  return said as DeviceProgramReport & { readonly event: Name };
}

async function failedAt(ended: Promise<unknown>): Promise<never> {
  throw new Error(`The device's process ended: ${JSON.stringify(await ended)}`);
}
