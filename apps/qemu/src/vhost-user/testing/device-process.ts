import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, rmSync } from 'node:fs';
import { tied } from '@virtlab/linux';
import { settle } from './vhost-user-link.ts';

const PROGRAM = new URL('device-program.ts', import.meta.url);

/** `device-program.ts` in a process of its own. */
export class DeviceProcess {
  readonly #child: ChildProcess;

  private constructor(args: readonly string[]) {
    const words = ['--conditions=@virtlab/source', PROGRAM.pathname, ...args];
    this.#child = spawn(...tied(process.execPath, words), { stdio: ['ignore', 'inherit', 'inherit'] });
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
