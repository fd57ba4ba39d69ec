import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { realXenstoredAvailability, startRealXenstored, type RealXenstoredKind } from '@virtlab/xen-preload';
import { startChild } from '../child.ts';
import type { BenchPlan } from '../contender.ts';
import type { LoadClient } from './load-client.ts';
import type { OurMemory } from './our-daemon.ts';

/** A process that listens on a Unix socket, with what is known of it from outside. */
export interface Listener extends AsyncDisposable {
  readonly name: string;
  readonly isPeer: boolean;
  readonly pid: number;
  readonly socketPath: string;
}

/** A xenstored, empty but for what it makes itself. */
export interface Daemon extends Listener {
  /** Bytes on the heap after a collection, where somebody can tell. */
  heapUsedSize(): Promise<number | undefined>;
}

let startCount = 0;

function socketPath(folder: string): string {
  startCount += 1;
  return join(folder, `xenstored-${startCount}.sock`);
}

export async function startOurs(folder: string): Promise<Daemon> {
  const path = socketPath(folder);
  const child = startChild('xenstore/our-daemon', [path]);
  const memory = async (): Promise<number> => ((await child.ask({})) as OurMemory).heapUsedSize;
  await memory();
  return {
    name: 'virtlab',
    isPeer: false,
    pid: child.pid,
    socketPath: path,
    heapUsedSize: memory,
    [Symbol.asyncDispose]: () => child[Symbol.asyncDispose](),
  };
}

const REAL: readonly { readonly kind: RealXenstoredKind; readonly name: string }[] = [
  { kind: 'c', name: 'C xenstored' },
  { kind: 'oxenstored', name: 'oxenstored' },
];

async function startReal(kind: RealXenstoredKind, name: string): Promise<Daemon> {
  const real = await startRealXenstored({ kind });
  return {
    name,
    isPeer: true,
    pid: real.pid,
    socketPath: real.socketPath,
    heapUsedSize: () => Promise.resolve(undefined),
    [Symbol.asyncDispose]: () => real.close(),
  };
}

/** Runs `use` with ours and every real daemon of this machine, all fresh, and ends them. */
export async function withDaemons<T>(
  { folder, onMissing }: BenchPlan,
  use: (daemons: readonly Daemon[]) => Promise<T>,
): Promise<T> {
  await using stack = new AsyncDisposableStack();
  const daemons = [stack.use(await startOurs(folder))];
  for (const { kind, name } of REAL) {
    const found = realXenstoredAvailability(kind);
    if (found.status === 'available') daemons.push(stack.use(await startReal(kind, name)));
    else if (process.env['VIRTLAB_REQUIRE_PEERS'] === '1')
      throw new Error(`${name} is left out: ${found.reason}`);
    else onMissing(`${name}: ${found.reason}`);
  }
  return await use(daemons);
}

/** Servers without a xenstore: what the client, the sockets and the runtime cost by themselves. */
export async function startEchoes(client: LoadClient, folder: string): Promise<readonly Listener[]> {
  const inC = socketPath(folder);
  const holder = await client.echo(inC);
  const underNode = socketPath(folder);
  const child = startChild('xenstore/node-echo', [underNode]);
  await child.ask({});
  return [
    { name: 'echo in C', isPeer: true, socketPath: inC, ...holder },
    {
      name: 'echo under Node',
      isPeer: true,
      pid: child.pid,
      socketPath: underNode,
      [Symbol.asyncDispose]: () => child[Symbol.asyncDispose](),
    },
  ];
}

/** Bytes of memory that the process occupies. */
export function residentSize({ pid }: Listener): number {
  const found = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'));
  return found === null ? 0 : Number(found[1]) * 1024;
}
