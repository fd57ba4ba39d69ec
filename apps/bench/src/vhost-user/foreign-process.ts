import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { tied } from '@virtlab/linux';

const READY_TIMEOUT_MS = 20_000;
const END_TIMEOUT_MS = 5000;
const LOOK_AGAIN_MS = 5;
/** Of what it says: as much as an error is made of. */
const MESSAGES_MAX = 16_384;

/** A program of this machine that serves, and ends with the process that started it. */
export class ForeignProcess implements AsyncDisposable {
  readonly #name: string;
  readonly #child: ChildProcess;
  readonly #closed: Promise<unknown>;
  #messages = '';

  constructor(command: string, args: readonly string[]) {
    this.#name = command;
    this.#child = spawn(...tied(command, args), { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#closed = once(this.#child, 'close');
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#messages = (this.#messages + text).slice(-MESSAGES_MAX);
      });
    }
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** What it wrote, on either stream; the last of it. */
  get messages(): string {
    return this.#messages;
  }

  get #hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /** Resolves when `isReady` says so; rejects with what it said when it ends first, or takes too long. */
  async until(isReady: () => boolean | Promise<boolean>): Promise<void> {
    const deadline = performance.now() + READY_TIMEOUT_MS;
    while (!(await isReady())) {
      if (this.#hasEnded || performance.now() > deadline) {
        const what = this.#hasEnded ? 'ended' : 'is not ready';
        await this[Symbol.asyncDispose]();
        throw new Error(`${this.#name} ${what}: ${this.#messages.trim()}`);
      }
      await sleep(LOOK_AGAIN_MS);
    }
  }

  /** Asks it to end, and then insists. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#hasEnded) {
      this.#child.kill('SIGTERM');
      await Promise.race([this.#closed, sleep(END_TIMEOUT_MS, undefined, { ref: false })]);
      if (!this.#hasEnded) this.#child.kill('SIGKILL');
    }
    await this.#closed;
  }
}

/** Whether a program of Debian's is there; if not, the peer is left out and `onMissing` told, or VIRTLAB_REQUIRE_PEERS=1 fails. */
export function hasPeer(
  command: string,
  args: readonly string[],
  debianPackage: string,
  onMissing: (peer: string) => void,
): boolean {
  if (spawnSync(command, args, { stdio: 'ignore' }).status === 0) return true;
  leaveOut(`${command}: Debian package ${debianPackage}`, onMissing);
  return false;
}

/** A peer that cannot take part, and why. */
export function leaveOut(peer: string, onMissing: (peer: string) => void): void {
  if (process.env['VIRTLAB_REQUIRE_PEERS'] === '1') throw new Error(`Left out is ${peer}`);
  onMissing(peer);
}
