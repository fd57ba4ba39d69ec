import { compare } from '../compare.ts';
import type { BenchPlan, Contender, RunResult } from '../contender.ts';
import { cpuNsOf } from '../cpu-meter.ts';
import type { ComparisonReport } from '../report/report.ts';
import type { Listener } from './daemons.ts';
import type { AskOperation, LoadClient, LoadResult } from './load-client.ts';

/** Heading of the column with the processor time of the daemon alone, for one operation. */
export const DAEMON_CPU = 'CPU of the daemon, µs';

export interface MeteredResult {
  readonly load: LoadResult;
  /** Processor time of the daemon during the run; undefined where the system does not tell. */
  readonly daemonCpuNs: number | undefined;
}

/** A run, and what it cost the daemon. */
export async function metered(daemon: Listener, run: () => Promise<LoadResult>): Promise<MeteredResult> {
  const before = cpuNsOf([daemon.pid]);
  const load = await run();
  const after = cpuNsOf([daemon.pid]);
  return { load, daemonCpuNs: before === undefined || after === undefined ? undefined : after - before };
}

/** A daemon as a contender; `run` has the client do so many operations. */
function contender(daemon: Listener, run: (count: number) => Promise<LoadResult>): Contender {
  return {
    name: daemon.isPeer ? daemon.name : `${daemon.name}, xenstored`,
    isPeer: daemon.isPeer,
    run: async (count): Promise<RunResult> => {
      const { load, daemonCpuNs } = await metered(daemon, () => run(count));
      const { operationCount, elapsedNs, cpuNs } = load;
      if (daemonCpuNs === undefined) return { operationCount, elapsedNs };
      const counts = { [DAEMON_CPU]: daemonCpuNs / 1000 };
      return { operationCount, elapsedNs, cpuNs: cpuNs + daemonCpuNs, counts };
    },
  };
}

interface Row {
  readonly title: string;
  readonly operation: string;
  readonly what: AskOperation | 'event';
  /** What an echo can answer as well. */
  readonly isEchoed?: true;
}

const ROWS: readonly Row[] = [
  { title: 'READ', operation: 'request', what: 'read', isEchoed: true },
  { title: 'WRITE', operation: 'request', what: 'write', isEchoed: true },
  { title: 'Transaction: start, write, end', operation: 'transaction', what: 'transaction' },
  { title: 'Watch event: write, event at another connection', operation: 'event', what: 'event' },
];

const DEPTHS = [1, 16] as const;

/** READ, WRITE, a transaction and a watch event, one and 16 at a time. The nodes must have been filled in. */
export async function compareRequests(
  client: LoadClient,
  daemons: readonly Listener[],
  echoes: readonly Listener[],
  plan: BenchPlan,
): Promise<ComparisonReport[]> {
  const reports: ComparisonReport[] = [];
  for (const depth of DEPTHS) {
    for (const { title, operation, what, isEchoed } of ROWS) {
      const contenders = [...daemons, ...(isEchoed === true ? echoes : [])].map((daemon) =>
        contender(daemon, (count) =>
          what === 'event'
            ? client.events(daemon.socketPath, 1, depth, count)
            : client.ask(daemon.socketPath, what, depth, count),
        ),
      );
      const suffix = depth === 1 ? 'one at a time' : `${depth} at once`;
      reports.push(await compare({ title: `${title}, ${suffix}`, operation, contenders }, plan));
    }
  }
  return reports;
}
