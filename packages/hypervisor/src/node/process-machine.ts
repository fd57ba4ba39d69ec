import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { DomId } from '@virtlab/abi/brands';
import { UnixStream, closeFd, socketPair } from '@virtlab/linux';
import { HypercallError } from '../errors.ts';
import type { DomainProgram, ShutdownReason, StartInfo } from '../hypercalls.ts';
import { Hypervisor } from '../hypervisor.ts';
import { DomainSession } from './domain-session.ts';
import { type SharedResources, createSharedResources } from './shared-resources.ts';

/** From the end of a domain that leaves by itself to the end of its process. */
const EXIT_GRACE_MS = 2000;

export interface ProcessMachineOptions {
  /** The module that a domain process runs; it finds its hypervisor on descriptor 3, see `connectHypervisor`. */
  readonly entry: URL;
  readonly onConsole?: (domain: DomId, record: unknown) => void;
  onDomainEnd?(domain: DomId, reason: ShutdownReason, detail: string): void;
}

/** A machine whose domains are processes. This process is the hypervisor and nothing of the data plane passes through it. */
export interface ProcessMachine {
  readonly hypervisor: Hypervisor;
  /** Sends a message to the program of a domain; rejects with `HypercallError` when it takes none or ends. */
  request(domain: DomId, message: unknown): Promise<unknown>;
  /** Ends all domains and waits until their processes are gone. */
  close(): Promise<void>;
}

interface DomainProcess {
  readonly child: ChildProcess;
  readonly session: DomainSession;
  /** It hung up, or the machine is switched off: it ends by itself. One that is destroyed is not asked. */
  isLeaving: boolean;
}

export function createProcessMachine(options: ProcessMachineOptions): ProcessMachine {
  const processes = new Map<DomId, DomainProcess>();
  const exits = new Set<Promise<unknown>>();

  const hypervisor = new Hypervisor({
    createResources: createSharedResources,
    stopsLater: true,
    launch: (domain, program, startInfo) => launch(domain, program, startInfo),
    onConsole: options.onConsole,
    onDomainEnd: (domain, reason, detail) => {
      const held = processes.get(domain);
      processes.delete(domain);
      if (held !== undefined) endProcess(held, held.isLeaving && reason !== 'crash' ? EXIT_GRACE_MS : 0);
      options.onDomainEnd?.(domain, reason, detail);
    },
  });

  function launch(domain: DomId, program: DomainProgram, startInfo: StartInfo): void {
    const { child, fd } = startProcess(options.entry);
    hypervisor.setPid(domain, child.pid);
    // A domain has no descriptor to give: one that sends any is cut off before they fill our table.
    const session = new DomainSession(UnixStream.fromFd(fd, { fdsMax: 0 }), {
      hypervisor,
      domain,
      start: { program, startInfo },
      resourcesOf: (each) => hypervisor.resourcesOf(each) as SharedResources | undefined,
      onEnd: (reason, detail) => {
        held.isLeaving = true;
        hypervisor.destroyDomain(domain, reason, detail);
      },
    });
    const exited = untilExit(child);
    exits.add(exited);
    void exited.then(({ isClean, how }) => {
      exits.delete(exited);
      hypervisor.destroyDomain(domain, isClean ? 'poweroff' : 'crash', how);
      hypervisor.domainStopped(domain);
    });
    const held: DomainProcess = { child, session, isLeaving: false };
    processes.set(domain, held);
  }

  return {
    hypervisor,
    request: async (domain, message) => {
      const held = processes.get(domain);
      if (held === undefined) throw new HypercallError('ESRCH', 'request', `Domain ${domain} does not run`);
      return await held.session.request(message);
    },
    close: async () => {
      for (const held of processes.values()) held.isLeaving = true;
      for (const { domain } of hypervisor.domains().toReversed()) {
        hypervisor.destroyDomain(domain, 'poweroff', 'The machine is switched off');
      }
      await Promise.all(exits);
    },
  };
}

/**
 * Starts a process and gives the descriptor of our end of its socket, which is the caller's. The process leads its own
 * group, so that an interrupt from the terminal reaches the machine, not each domain.
 */
function startProcess(entry: URL): { readonly child: ChildProcess; readonly fd: number } {
  const source = entry.pathname.endsWith('.ts') ? ['--conditions=@virtlab/source'] : [];
  const [fd, theirs] = socketPair();
  try {
    const child = spawn(process.execPath, [...source, fileURLToPath(entry)], {
      stdio: ['ignore', process.stderr, process.stderr, theirs],
      detached: true,
    });
    return { child, fd };
  } catch (error) {
    closeFd(fd);
    throw error;
  } finally {
    closeFd(theirs);
  }
}

/** Resolves when the process has ended, or when there will be none. */
async function untilExit(child: ChildProcess): Promise<{ readonly isClean: boolean; readonly how: string }> {
  try {
    const [code, signal] = (await once(child, 'exit')) as [number | null, string | null];
    const how = signal === null ? `exited with code ${code}` : `was killed by ${signal}`;
    return { isClean: code === 0, how: `Process ${child.pid} ${how}` };
  } catch (error) {
    return { isClean: false, how: `No process: ${String(error)}` };
  }
}

function endProcess({ child, session }: DomainProcess, graceMs: number): void {
  session.close();
  if (child.exitCode !== null || child.signalCode !== null) return;
  if (graceMs === 0) {
    child.kill('SIGKILL');
    return;
  }
  const timer = setTimeout(() => child.kill('SIGKILL'), graceMs);
  child.once('exit', () => clearTimeout(timer));
}
