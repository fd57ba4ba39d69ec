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

/** Between a domain's announced end and the end of its process. */
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
  readonly exited: Promise<unknown>;
  announced: boolean;
}

export function createProcessMachine(options: ProcessMachineOptions): ProcessMachine {
  const processes = new Map<DomId, DomainProcess>();
  const exits = new Set<Promise<unknown>>();

  const hypervisor = new Hypervisor({
    createResources: createSharedResources,
    launch: (domain, program, startInfo) => launch(domain, program, startInfo),
    onConsole: options.onConsole,
    onDomainEnd: (domain, reason, detail) => {
      const held = processes.get(domain);
      processes.delete(domain);
      if (held !== undefined) endProcess(held, reason === 'crash' ? 0 : EXIT_GRACE_MS);
      options.onDomainEnd?.(domain, reason, detail);
    },
  });

  function launch(domain: DomId, program: DomainProgram, startInfo: StartInfo): void {
    const [own, theirs] = socketPair();
    const child = startProcess(options.entry, theirs);
    closeFd(theirs);
    hypervisor.setPid(domain, child.pid);
    const session = new DomainSession(UnixStream.fromFd(own), {
      hypervisor,
      domain,
      start: { program, startInfo },
      resourcesOf: (each) => hypervisor.resourcesOf(each) as SharedResources | undefined,
      onEnd: (reason, detail) => hypervisor.destroyDomain(domain, reason, detail),
    });
    const exited = once(child, 'exit');
    exits.add(exited);
    void exited.then(([code, signal]) => {
      exits.delete(exited);
      const how = signal === null ? `exited with code ${code}` : `was killed by ${signal}`;
      hypervisor.destroyDomain(domain, code === 0 ? 'poweroff' : 'crash', `Process ${child.pid} ${how}`);
    });
    child.once('error', (error) => hypervisor.destroyDomain(domain, 'crash', `No process: ${error.message}`));
    processes.set(domain, { child, session, exited, announced: false });
  }

  return {
    hypervisor,
    request: async (domain, message) => {
      const held = processes.get(domain);
      if (held === undefined) throw new HypercallError('ESRCH', 'request', `Domain ${domain} does not run`);
      return await held.session.request(message);
    },
    close: async () => {
      for (const { domain } of hypervisor.domains().toReversed()) {
        hypervisor.destroyDomain(domain, 'poweroff', 'The machine is switched off');
      }
      await Promise.all(exits);
    },
  };
}

/** The process leads its own group, so that an interrupt from the terminal reaches the machine, not each domain. */
function startProcess(entry: URL, fd: number): ChildProcess {
  const source = entry.pathname.endsWith('.ts') ? ['--conditions=@virtlab/source'] : [];
  return spawn(process.execPath, [...source, fileURLToPath(entry)], {
    stdio: ['ignore', process.stderr, process.stderr, fd],
    detached: true,
  });
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
