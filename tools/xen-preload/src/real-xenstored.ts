import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DOMID_FIRST_RESERVED } from '@virtlab/abi/xen';
import { installedProgram, missingForPreload, realXenstoredAvailability } from './availability.ts';
import type { RealDomain, RealXenstored, RealXenstoredKind, RealXenstoredOptions } from './contract.ts';
import { LIB_DIRECTORY, LOG_DIRECTORY, PORT_FILE, RUN_DIRECTORY, daemonCommand } from './daemon-command.ts';
import { DaemonProcess } from './daemon-process.ts';
import { EmulatedDomain, makeRingPage } from './emulated-domain.ts';
import { RealXenstoredError } from './error.ts';
import { EventSocket } from './event-socket.ts';
import { MachineFile } from './machine.ts';
import { preloadLibrary } from './preload-library.ts';

/**
 * Starts a daemon of Xen on this machine without Xen, with domain 0 alone. Resolves when it serves. Any number can run at
 * once; each has its own directory, which goes with it. It ends at the latest with the thread that started it.
 *
 * Rejects with RealXenstoredError: `missing`, `compile`, `exited`.
 */
export async function startRealXenstored(options: RealXenstoredOptions): Promise<RealXenstored> {
  const program = programOf(options);
  const directory = makeDirectory();
  let machine: MachineFile | undefined;
  let daemon: DaemonProcess | undefined;
  try {
    machine = prepareMachine(directory);
    const library = await preloadLibrary(directory);
    const command = daemonCommand(options, directory);
    const started = new DaemonProcess({ program, command, library, directory });
    daemon = started;
    const events = new EventSocket(started.events, machine, () => started.markReady());
    await started.untilReady();
    return new Daemon(options.kind, directory, machine, started, events);
  } catch (error) {
    await daemon?.end();
    machine?.close();
    rmSync(directory, { recursive: true, force: true });
    throw error;
  }
}

function programOf(options: RealXenstoredOptions): string {
  if (options.program !== undefined) {
    const reason = missingForPreload();
    if (reason !== undefined) throw new RealXenstoredError('missing', reason);
    return options.program;
  }
  const availability = realXenstoredAvailability(options.kind);
  if (availability.status === 'missing') throw new RealXenstoredError('missing', availability.reason);
  return installedProgram(options.kind)!.path;
}

/** In memory where that is possible: no disk is written for the pages. Short, as a socket's path has 107 bytes. */
function makeDirectory(): string {
  const name = 'virtlab-xenstored-';
  try {
    return mkdtempSync(join('/dev/shm', name));
  } catch {
    return mkdtempSync(join(tmpdir(), name));
  }
}

/** Domain 0 with its page and channel, as the kernel of a real domain 0 has them before it starts the daemon. */
function prepareMachine(directory: string): MachineFile {
  for (const name of [RUN_DIRECTORY, LOG_DIRECTORY, LIB_DIRECTORY]) mkdirSync(join(directory, name));
  const machine = new MachineFile(join(directory, 'machine'));
  machine.addDomain(0);
  makeRingPage(directory, 0);
  // Without newline: oxenstored reads the whole file as the number.
  writeFileSync(join(directory, PORT_FILE), String(machine.offerChannel(0)));
  return machine;
}

class Daemon implements RealXenstored {
  readonly kind: RealXenstoredKind;
  readonly socketPath: string;
  readonly #directory: string;
  readonly #machine: MachineFile;
  readonly #process: DaemonProcess;
  readonly #events: EventSocket;
  readonly #domains = new Map<number, EmulatedDomain>();
  #closing: Promise<void> | undefined;

  constructor(
    kind: RealXenstoredKind,
    directory: string,
    machine: MachineFile,
    process: DaemonProcess,
    events: EventSocket,
  ) {
    this.kind = kind;
    this.socketPath = join(directory, RUN_DIRECTORY, 'socket');
    this.#directory = directory;
    this.#machine = machine;
    this.#process = process;
    this.#events = events;
  }

  get pid(): number {
    return this.#process.pid;
  }

  get messages(): string {
    return this.#process.messages;
  }

  // oxlint-disable-next-line require-await -- the contract leaves room for daemons that are told over a socket
  async createDomain(domid: number): Promise<RealDomain> {
    if (!Number.isInteger(domid) || domid <= 0 || domid >= DOMID_FIRST_RESERVED)
      throw new RangeError(`domid ${domid}`);
    if (this.#closing !== undefined) throw new RealXenstoredError('exited', 'the daemon was closed');
    if (this.#domains.has(domid)) throw new RealXenstoredError('EEXIST', `domain ${domid} exists`);
    const domain = new EmulatedDomain(domid, this.#directory, this.#machine, this.#events, (closed) => {
      if (this.#domains.get(domid) === closed) this.destroyDomain(domid);
    });
    this.#domains.set(domid, domain);
    return domain;
  }

  shutdownDomain(domid: number): void {
    if (!this.#domains.has(domid)) return;
    this.#machine.shutDownDomain(domid);
    this.#events.raiseDomainException();
  }

  destroyDomain(domid: number): void {
    const domain = this.#domains.get(domid);
    if (domain === undefined) return;
    this.#domains.delete(domid);
    domain.vanish();
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#domains.clear();
    this.#events.forgetAll();
    await this.#process.end();
    this.#events.close();
    this.#machine.close();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
