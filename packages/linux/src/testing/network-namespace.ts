import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readlinkSync } from 'node:fs';

/** What a command said. */
export interface CommandResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * A network namespace without a name, alive as long as a process in it: that one ends when this object is disposed or
 * this process ends, however it ends, and the kernel removes namespace and interfaces.
 */
export class NetworkNamespace implements AsyncDisposable {
  /** For `inNetworkNamespace` and `TapOptions.namespace`. */
  readonly path: string;
  readonly #holder: ChildProcess;

  private constructor(holder: ChildProcess) {
    this.#holder = holder;
    this.path = `/proc/${holder.pid}/ns/net`;
  }

  /** Why none can be made here, or undefined: no privilege, or a container that forbids it. */
  static unavailable(): string | undefined {
    const { status, stderr, error } = spawnSync('unshare', ['--net', 'true'], { encoding: 'utf8' });
    if (status === 0) return undefined;
    return `no network namespace can be made: ${error?.message ?? stderr.trim()}`;
  }

  static async create(): Promise<NetworkNamespace> {
    // `cat` ends with its input, which ends with us.
    const holder = spawn('unshare', ['--net', 'cat'], { stdio: ['pipe', 'ignore', 'inherit'] });
    await once(holder, 'spawn');
    const namespace = new NetworkNamespace(holder);
    const own = readlinkSync('/proc/self/ns/net');
    while (readlinkSync(namespace.path) === own) {
      if (holder.exitCode !== null) throw new Error(`unshare ended with ${holder.exitCode}`);
      await new Promise((resolve) => void setImmediate(resolve));
    }
    return namespace;
  }

  /** Starts a command in the namespace. */
  spawn(command: string, args: readonly string[]): ChildProcess {
    return spawn('nsenter', [`--net=${this.path}`, command, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  }

  /** Runs a command in the namespace to its end. */
  async run(command: string, args: readonly string[]): Promise<CommandResult> {
    const child = this.spawn(command, args);
    let stdout = '';
    let stderr = '';
    child.stdout!.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr!.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    const [code] = (await once(child, 'close')) as [number | null];
    return { code, stdout, stderr };
  }

  /** The same, and throws with what the command said when it fails. */
  async check(command: string, ...args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.run(command, args);
    if (code !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${code}: ${stderr}${stdout}`);
    return stdout;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#holder.exitCode !== null || this.#holder.signalCode !== null) return;
    const ended = once(this.#holder, 'exit');
    this.#holder.stdin!.end();
    await ended;
  }
}
