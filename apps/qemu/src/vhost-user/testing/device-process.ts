import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, rmSync } from 'node:fs';
import { settle } from './vhost-user-link.ts';

const PROGRAM = new URL('device-program.ts', import.meta.url);
const TIE: readonly string[] = ['setpriv', '--pdeathsig', 'KILL', '--'];

/** `device-program.ts` in a process of its own. */
export class DeviceProcess {
  readonly #child: ChildProcess;

  private constructor(args: readonly string[]) {
    const [command, ...tie] = TIE;
    const node = [process.execPath, '--conditions=@virtlab/source', PROGRAM.pathname, ...args];
    this.#child = spawn(command!, [...tie, ...node], { stdio: ['ignore', 'inherit', 'inherit'] });
  }

  /** Resolves when it listens at all paths. */
  static async start(kind: string, detail: string, ...paths: readonly string[]): Promise<DeviceProcess> {
    for (const path of paths) rmSync(path, { force: true });
    const device = new DeviceProcess([kind, detail, ...paths]);
    while (!paths.every((path) => existsSync(path))) {
      if (device.#child.exitCode !== null) throw new Error(`The device ended with ${device.#child.exitCode}`);
      await settle();
    }
    return device;
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** As a crash would. */
  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill('SIGKILL');
    await once(this.#child, 'exit');
  }
}
