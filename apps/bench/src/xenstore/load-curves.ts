import type { BenchPlan } from '../contender.ts';
import type { CurveReport } from '../report/report.ts';
import { type CurvePoint, costCurve, formatNumber, medianNs } from './curves.ts';
import type { Daemon } from './daemons.ts';
import type { LoadClient, LoadHolder } from './load-client.ts';

const DEPTH = 16;
const OTHER_WATCHES = [0, 100, 10_000];
/** oxenstored holds back a client that has caused more than 1024 events, by its `quota-maxwatchevents`. */
const MATCHING_DEPTH = 10;
const MATCHING_WATCHES = [1, 10, 100];
const CONNECTIONS = [1, 100, 1000];
const BRIEF = [1, 10];
/** So that each connection of a crowd has its chance to be served more or less often than others. */
const SERVED_MEAN_MIN = 20;

/** Write, by the watches that do not hear of it and by those that do. */
export async function watchCurves(
  client: LoadClient,
  daemons: readonly Daemon[],
  plan: BenchPlan,
): Promise<CurveReport[]> {
  const others: CurvePoint[] = [];
  for (const watchCount of plan.isBrief === true ? BRIEF : OTHER_WATCHES) {
    const ns = await whileHeld(
      daemons,
      ({ socketPath }) => client.hold(socketPath, 1, watchCount),
      () => medianNs(daemons, ({ socketPath }, count) => client.ask(socketPath, 'write', DEPTH, count), plan),
    );
    others.push({ at: formatNumber(watchCount), ns });
  }
  const matching: CurvePoint[] = [];
  for (const watchCount of plan.isBrief === true ? BRIEF : MATCHING_WATCHES) {
    const ns = await medianNs(
      daemons,
      ({ socketPath }, count) => client.events(socketPath, watchCount, MATCHING_DEPTH, count),
      plan,
    );
    matching.push({ at: formatNumber(watchCount), ns });
  }
  return [
    costCurve(`WRITE by watches elsewhere, ${DEPTH} at once`, 'watches that do not match', daemons, others),
    costCurve(
      `WRITE and its events, ${MATCHING_DEPTH} writes at once`,
      'watches that match',
      daemons,
      matching,
    ),
  ];
}

/** READ, by the connections there are, and by those that ask. */
export async function connectionCurves(
  client: LoadClient,
  daemons: readonly Daemon[],
  plan: BenchPlan,
): Promise<CurveReport[]> {
  const idle: CurvePoint[] = [];
  const turns: CurvePoint[] = [];
  const crowd: CurvePoint[] = [];
  const fairness: (readonly string[])[] = [];
  for (const connectionCount of plan.isBrief === true ? BRIEF : CONNECTIONS) {
    const at = formatNumber(connectionCount);
    const alone = await whileHeld(
      daemons,
      ({ socketPath }) => client.hold(socketPath, connectionCount - 1, 0),
      () => medianNs(daemons, ({ socketPath }, count) => client.ask(socketPath, 'read', 1, count), plan),
    );
    idle.push({ at, ns: alone });
    const inTurn = await medianNs(
      daemons,
      ({ socketPath }, count) => client.turns(socketPath, connectionCount, count),
      plan,
    );
    turns.push({ at, ns: inTurn });
    const worst = new Map<Daemon, number>();
    const together = await medianNs(
      daemons,
      async (daemon, count) => {
        const result = await client.crowd(daemon.socketPath, connectionCount, count);
        const share = result.servedMax / Math.max(result.servedMin, 1);
        worst.set(daemon, Math.max(share, worst.get(daemon) ?? 1));
        return result;
      },
      plan,
      connectionCount * SERVED_MEAN_MIN,
    );
    crowd.push({ at, ns: together });
    fairness.push([at, ...daemons.map((daemon) => worst.get(daemon)!.toFixed(2))]);
  }
  return [
    costCurve('READ beside idle connections, one at a time', 'connections', daemons, idle),
    costCurve('READ, the connections in turn, one at a time', 'connections', daemons, turns),
    costCurve('READ, one under way on every connection', 'connections', daemons, crowd),
    {
      title:
        'The same: requests of the connection served most over those of the one served least, worst round',
      head: ['connections', ...daemons.map(({ name }) => name)],
      rows: fairness,
    },
  ];
}

/** With a client at each daemon that holds something meanwhile. */
async function whileHeld<T>(
  daemons: readonly Daemon[],
  hold: (daemon: Daemon) => Promise<LoadHolder>,
  measure: () => Promise<T>,
): Promise<T> {
  await using stack = new AsyncDisposableStack();
  for (const daemon of daemons) stack.use(await hold(daemon));
  return await measure();
}
