import type { CommandResult, GuestBoot } from './control-channel.ts';
import { ControlChannel } from './control-channel.ts';
import { LinuxGuestError } from './error.ts';
import { type GuestDevice, deviceArguments } from './guest-device.ts';
import { type GuestImage, type GuestImageOptions, guestImage } from './image/guest-image.ts';
import { PlugSlots } from './plug-slots.ts';
import { CONSOLE_FD, CONTROL_FD, QMP_FD, QemuProcess } from './qemu-process.ts';
import { QmpClient } from './qmp-client.ts';
import { within } from './within.ts';

/** Some ten times what an idle machine takes; a busy one has other things to do. */
const BOOT_TIMEOUT_MS = 60_000;
const COMMAND_TIMEOUT_MS = 30_000;
const END_TIMEOUT_MS = 30_000;
const MEMORY_SIZE = 256 * 2 ** 20;
const MEBIBYTE = 2 ** 20;
/** How a kernel that gives up begins its last words. */
const PANIC = 'Kernel panic - not syncing';

export interface LinuxGuestOptions extends GuestImageOptions {
  /** Bytes, 256 MiB by default, a multiple of 1 MiB. A memfd that QEMU shares with vhost-user devices. */
  readonly memorySize?: number;
  /** 1 by default. Linux uses no more queues of a disk than it has CPUs. */
  readonly cpuCount?: number;
  readonly devices?: readonly GuestDevice[];
  /** Slots that devices can be plugged into while the guest runs, none by default. */
  readonly slotCount?: number;
  /** More arguments of QEMU, after ours. */
  readonly arguments?: readonly string[];
  /** More words on the kernel's command line. */
  readonly kernelArguments?: readonly string[];
  readonly bootTimeoutMs?: number;
}

export interface TimeLimit {
  /** 30 s by default, 60 s where the guest starts. */
  readonly timeoutMs?: number;
}

/**
 * Starts Linux in a virtual machine of its own, QEMU's q35 without KVM, and resolves when it takes commands. The process
 * is killed when the thread that called this ends, and by `close`.
 *
 * Rejects with LinuxGuestError `missing`, `image`, `exited`, `panic` or `timeout`; nothing is left then. Throws RangeError
 * for a memory size that QEMU would not take.
 */
export async function startLinuxGuest(options: LinuxGuestOptions = {}): Promise<LinuxGuest> {
  const size = options.memorySize ?? MEMORY_SIZE;
  if (!Number.isSafeInteger(size) || size <= 0 || size % MEBIBYTE !== 0) {
    throw new RangeError(`a memory of ${size} bytes is no multiple of 1 MiB`);
  }
  const guest = new LinuxGuest(options, guestImage(options));
  try {
    await guest.untilReady(options.bootTimeoutMs ?? BOOT_TIMEOUT_MS);
  } catch (error) {
    await guest.close();
    throw error;
  }
  return guest;
}

function qemuArguments(options: LinuxGuestOptions, image: GuestImage): readonly string[] {
  const size = options.memorySize ?? MEMORY_SIZE;
  // A panic halts: what it said is read, and this side ends the guest.
  const kernelArguments = ['console=ttyS0', 'quiet', 'panic=0', ...(options.kernelArguments ?? [])];
  const machine = [
    ['-machine', 'q35,memory-backend=mem'],
    ['-object', `memory-backend-memfd,id=mem,size=${size},share=on`],
    ['-accel', 'tcg'],
    ['-m', `${size / MEBIBYTE}M`],
    ['-smp', String(options.cpuCount ?? 1)],
    ['-nodefaults', '-no-user-config'],
    ['-display', 'none'],
    ['-chardev', `socket,id=console,fd=${CONSOLE_FD}`, '-serial', 'chardev:console'],
    ['-chardev', `socket,id=control,fd=${CONTROL_FD}`, '-serial', 'chardev:control'],
    ['-chardev', `socket,id=qmp,fd=${QMP_FD}`, '-mon', 'chardev=qmp,mode=control'],
    ['-kernel', image.kernelPath],
    ['-initrd', image.initramfsPath],
    ['-append', kernelArguments.join(' ')],
  ];
  return [
    ...machine.flat(),
    ...PlugSlots.arguments(options.slotCount ?? 0),
    ...(options.devices ?? []).flatMap(deviceArguments),
    ...(options.arguments ?? []),
  ];
}

/** A running virtual machine. Errors are LinuxGuestErrors and say what QEMU and the guest's kernel said last. */
export class LinuxGuest implements AsyncDisposable {
  readonly #process: QemuProcess;
  readonly #control: ControlChannel;
  readonly #slots: PlugSlots;
  readonly #virtioDevices: ReadonlySet<string>;
  /** QEMU's own commands and events. */
  readonly qmp: QmpClient;
  /** Of the kernel that was started. */
  readonly kernelRelease: string;
  #boot: GuestBoot | undefined;
  #consoleLine = '';

  /** @internal `startLinuxGuest` makes it. */
  constructor(options: LinuxGuestOptions, image: GuestImage) {
    this.kernelRelease = image.kernelRelease;
    this.#process = new QemuProcess(qemuArguments(options, image), (text) => this.#watchConsole(text));
    this.#control = new ControlChannel(this.#process.control, () => this.#process.context());
    this.qmp = new QmpClient(this.#process.qmp);
    this.#slots = new PlugSlots(this.qmp, options.slotCount ?? 0);
    this.#virtioDevices = new Set((options.devices ?? []).map(({ id }) => id));
    void this.#process.ended.then((error) => this.#fail(error));
  }

  /** Of QEMU. */
  get pid(): number {
    return this.#process.pid;
  }

  /** What the guest's kernel said: warnings and errors, after `reboot` of all its lives. The last 256 Ki characters. */
  get console(): string {
    return this.#process.console;
  }

  /** What QEMU wrote to its standard error, the last 256 Ki characters. */
  get messages(): string {
    return this.#process.messages;
  }

  /** Another one after each start of the guest's kernel. */
  get bootId(): string {
    return this.#boot?.bootId ?? '';
  }

  /** @internal */
  async untilReady(timeoutMs: number): Promise<void> {
    this.#boot = await this.#control.untilBoot(timeoutMs);
  }

  /**
   * Runs a shell script of at most 16 KiB, without input, and resolves with its status and what it wrote, at most 256 KiB.
   * Several run side by side; each is a shell of its own that starts in `/`. Rejects with `timeout` (the script and all
   * that it started in its session are killed then), `restarted`, `output`, `panic`, `exited`.
   */
  run(script: string, { timeoutMs = COMMAND_TIMEOUT_MS }: TimeLimit = {}): Promise<CommandResult> {
    return this.#control.run(script, timeoutMs);
  }

  /** What a script wrote that had to succeed, without blanks at its ends. Rejects as `run` does, and with `status`. */
  async output(script: string, limit?: TimeLimit): Promise<string> {
    const { status, output } = await this.run(script, limit);
    if (status === 0) return output.trim();
    const said = `${output.trim()}${this.#process.context()}`;
    throw new LinuxGuestError('status', `status ${status} in the guest: ${script}\n${said}`);
  }

  /** Repeats a script until it succeeds. Rejects as `run` does. */
  async waitUntil(script: string, limit?: TimeLimit): Promise<void> {
    await this.run(`until (\n${script}\n) do usleep 20000; done`, limit);
  }

  /** Starts the guest's kernel anew after its file systems were unmounted. What runs is rejected with `restarted`. */
  async reboot({ timeoutMs = BOOT_TIMEOUT_MS }: TimeLimit = {}): Promise<void> {
    this.#control.expectBoot();
    this.#control.send('reboot');
    await this.untilReady(timeoutMs);
  }

  /** The same by the machine's reset button: the guest's kernel learns nothing of it. */
  async reset({ timeoutMs = BOOT_TIMEOUT_MS }: TimeLimit = {}): Promise<void> {
    this.#control.expectBoot();
    await this.qmp.execute('system_reset');
    await this.untilReady(timeoutMs);
  }

  /**
   * Unmounts the guest's file systems and turns it off; resolves when QEMU has ended. Rejects with `timeout`, after QEMU
   * was killed, or with `exited` when QEMU failed.
   */
  async powerOff({ timeoutMs = END_TIMEOUT_MS }: TimeLimit = {}): Promise<void> {
    this.#control.expectBoot();
    this.#control.send('poweroff');
    try {
      const ending = await within(this.#process.ended, timeoutMs, () => {
        return new LinuxGuestError(
          'timeout',
          `the guest is on after ${timeoutMs} ms${this.#process.context()}`,
        );
      });
      if (!this.#process.endedWell) throw ending;
    } finally {
      await this.close();
    }
  }

  /** Adds a device to the running guest, whose driver finds it somewhat later. Throws RangeError without a free slot. */
  plug(device: GuestDevice): Promise<void> {
    return this.#slots.plug(device);
  }

  /** Asks the guest for a device that was plugged, and resolves when it and what stood behind it are gone. */
  unplug(id: string, limit?: TimeLimit): Promise<void> {
    return this.#slots.unplug(id, limit?.timeoutMs ?? COMMAND_TIMEOUT_MS);
  }

  /** Pulls the cable of a network card, or puts it back. */
  async setLink(id: string, isUp: boolean): Promise<void> {
    await this.qmp.execute('set_link', { name: id, up: isUp });
  }

  /** QEMU's view of a virtio device: status, features, negotiated features (`x-query-virtio-status`). */
  async virtioStatus(id: string): Promise<Readonly<Record<string, unknown>>> {
    if (!this.#virtioDevices.has(id) && !this.#slots.has(id))
      throw new RangeError(`the guest has no device ${id}`);
    const path = `/machine/peripheral/${id}/virtio-backend`;
    return (await this.qmp.execute('x-query-virtio-status', { path })) as Readonly<Record<string, unknown>>;
  }

  /** Ends QEMU at once, as a power cut would; resolves when it is gone. Idempotent. */
  close(): Promise<void> {
    return this.#process.kill();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #watchConsole(text: string): void {
    const lines = (this.#consoleLine + text).split('\n');
    this.#consoleLine = lines.pop()!;
    if (!lines.some((line) => line.includes(PANIC))) return;
    this.#fail(new LinuxGuestError('panic', `the guest's kernel gave up${this.#process.context()}`));
    void this.#process.kill();
  }

  #fail(error: LinuxGuestError): void {
    this.#control.fail(error);
    this.qmp.fail(error);
  }
}
