/** qemu-storage-daemon as a vhost-user device of somebody else's, in a process of its own. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isListening, linuxFfi, tied } from '@virtlab/linux';
import { describeWithPeer } from '@virtlab/linux/testing';

const COMMAND = 'qemu-storage-daemon';
const PACKAGE = 'qemu-system-common';
const READY_TIMEOUT_MS = 5000;

function unavailable(): string | undefined {
  const ffi = linuxFfi();
  if (!ffi.available) return ffi.reason;
  const { status } = spawnSync(...tied(COMMAND, ['--version']));
  return status === 0 ? undefined : `${COMMAND} is missing: Debian package ${PACKAGE}`;
}

/**
 * A suite that needs qemu-storage-daemon. Without it the suite is skipped, and its title names the package; with
 * VIRTLAB_REQUIRE_PEERS=1 it fails.
 */
export function describeWithStorageDaemon(name: string, suite: () => void): void {
  describeWithPeer(name, unavailable(), suite);
}

export interface StorageDaemonOptions {
  /** The `--blockdev` of the node called `d0`, without its name: `driver=null-co,size=1048576`. */
  readonly blockdev: string;
  /** The `--blockdev` of further nodes, that come first. */
  readonly below?: readonly string[];
  readonly writable?: boolean;
  readonly queueCount?: number;
  /** Where it listens; default a place of its own, which goes when it is stopped. */
  readonly path?: string;
}

export class StorageDaemon {
  readonly path: string;
  readonly #child: ChildProcess;
  /** Its own, for messages: a pipe would be a descriptor of this process, whose descriptors tests count. */
  readonly #directory: string = mkdtempSync(join(tmpdir(), 'virtlab-qsd-'));

  private constructor(options: StorageDaemonOptions) {
    this.path = options.path ?? join(this.#directory, 'blk.sock');
    const { blockdev, below = [], writable = true, queueCount = 1 } = options;
    const place = `addr.type=unix,addr.path=${this.path}`;
    const features = `writable=${writable ? 'on' : 'off'},num-queues=${queueCount}`;
    const nodes = [...below, `${blockdev},node-name=d0`].flatMap((node) => ['--blockdev', node]);
    const exported = ['--export', `type=vhost-user-blk,id=e0,node-name=d0,${place},${features}`];
    const messages = openSync(this.#messageFile, 'w');
    this.#child = spawn(...tied(COMMAND, [...nodes, ...exported]), {
      stdio: ['ignore', 'ignore', messages],
    });
    closeSync(messages);
  }

  /** Resolves when it listens. */
  static async start(options: StorageDaemonOptions): Promise<StorageDaemon> {
    const path = options.path;
    if (path !== undefined) rmSync(path, { force: true });
    const daemon = new StorageDaemon(options);
    const until = performance.now() + READY_TIMEOUT_MS;
    while (!(await isListening(daemon.path))) {
      if (daemon.#child.exitCode !== null || performance.now() > until) {
        const { messages } = daemon;
        await daemon.kill();
        throw new Error(`${COMMAND} does not listen: ${messages}`);
      }
      await new Promise((resolve) => void setTimeout(resolve, 2));
    }
    return daemon;
  }

  /** A raw file, or what a descriptor of this process names. */
  static async startOnFile(
    file: string,
    options: Omit<StorageDaemonOptions, 'blockdev'> = {},
  ): Promise<StorageDaemon> {
    const readOnly = options.writable === false ? 'on' : 'off';
    const below = `driver=file,node-name=f0,filename=${file},locking=off,discard=unmap,read-only=${readOnly}`;
    return await StorageDaemon.start({
      ...options,
      below: [below],
      blockdev: `driver=raw,file=f0,discard=unmap,read-only=${readOnly}`,
    });
  }

  get pid(): number {
    return this.#child.pid!;
  }
  /** What it had to say, until it is ended here. */
  get messages(): string {
    return readFileSync(this.#messageFile, 'utf8');
  }

  get #messageFile(): string {
    return join(this.#directory, 'messages');
  }

  /** Ends it as if it had crashed. */
  async kill(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      this.#child.kill('SIGKILL');
      await once(this.#child, 'exit');
    }
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
