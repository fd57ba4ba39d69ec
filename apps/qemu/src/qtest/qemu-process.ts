import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readSync, writeSync } from 'node:fs';
import { closeFd, memfdCreate, tied } from '@virtlab/linux';

export const QEMU_COMMAND = 'qemu-system-x86_64';
/** The Debian package that has it. */
export const QEMU_PACKAGE = 'qemu-system-x86';

/** Why QEMU cannot be used here, or undefined. */
export function qemuUnavailable(): string | undefined {
  const { status, error } = spawnSync(...tied(QEMU_COMMAND, ['--version']));
  if (status === 0) return undefined;
  return `${QEMU_COMMAND} is missing${error === undefined ? '' : ` (${error.message})`}: Debian package ${QEMU_PACKAGE}`;
}

/** Bytes in anonymous memory, for a process to open by its descriptor. The caller closes it. */
export function memoryFile(name: string, bytes: Uint8Array): number {
  const fd = memfdCreate(name, bytes.length, { seal: false });
  for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at);
  return fd;
}

/** The name under which a process opens a descriptor that it inherited. */
export function fdPath(fd: number): string {
  return `/proc/self/fd/${fd}`;
}

const ENDING_TIMEOUT_MS = 3000;
const MESSAGE_SIZE_MAX = 16384;

/** A QEMU that dies with the thread that started it, and whose messages are kept. */
export class QemuProcess {
  readonly #child: ChildProcess;
  readonly #messages: number;
  readonly #ended: Promise<unknown>;
  #hasEnded = false;
  #text: string | undefined;

  /** `fds` become its descriptors 0, 1, and from 3 on; those of the caller stay open. */
  constructor(args: readonly string[], fds: readonly number[]) {
    this.#messages = memfdCreate('qemu-messages', 1, { seal: false });
    const [input, output, ...more] = fds;
    this.#child = spawn(...tied(QEMU_COMMAND, args), {
      stdio: [input!, output!, this.#messages, ...more],
    });
    this.#ended = once(this.#child, 'exit')
      .catch(() => undefined)
      .then(() => {
        this.#hasEnded = true;
      });
    // The event loop is free to end: whoever waits holds a promise of ours, or blocks.
    this.#child.unref();
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** What it wrote to its standard error so far. */
  get messages(): string {
    if (this.#text !== undefined) return this.#text;
    const bytes = Buffer.alloc(MESSAGE_SIZE_MAX);
    const count = readSync(this.#messages, bytes, 0, bytes.length, 0);
    return bytes.toString('utf8', 0, count).replaceAll('\0', '').trim();
  }

  /** At once, and for nobody's benefit but a test's. */
  kill(): void {
    this.#child.kill('SIGKILL');
  }

  /** Waits for it to end by itself, and does not wait for ever. */
  async end(): Promise<void> {
    this.#child.ref();
    const timer = setTimeout(() => this.kill(), this.#hasEnded ? 0 : ENDING_TIMEOUT_MS);
    await this.#ended;
    clearTimeout(timer);
    if (this.#text !== undefined) return;
    this.#text = this.messages;
    closeFd(this.#messages);
  }
}
