import type { FaultPlan } from './fault-plan.ts';
import { QUOTA_NAMES } from './store-observer.ts';

type Parser = (text: string) => FaultPlan | undefined;

const FAULTS: ReadonlyMap<string, Parser> = new Map<string, Parser>([
  ['eagain', (text) => withCount(text, (eagain) => ({ eagain }))],
  ['eagain-probability', probability],
  ['delay-events', (text) => withCount(text, (eventDelayMs) => ({ eventDelayMs }))],
  ['batch-events', (text) => withCount(text, (eventBatch) => ({ eventBatch }))],
  ['disconnect-at', (text) => withCount(text, (disconnectAtByte) => ({ disconnectAtByte }))],
  ['full-quota', fullQuotas],
]);

/** What `parseFault` understands, for a help text. */
export const FAULT_USAGE: string =
  'eagain=COUNT eagain-probability=0..1 delay-events=MS batch-events=COUNT disconnect-at=BYTE ' +
  `full-quota=NAME[,NAME…] (${QUOTA_NAMES.join(' ')})`;

/**
 * One fault as a command line names it: `eagain=3`, `eagain-probability=0.1`, `delay-events=50`, `batch-events=4`,
 * `disconnect-at=1000`, `full-quota=nodes,watches`. Throws `RangeError` for anything else.
 */
export function parseFault(text: string): Partial<FaultPlan> {
  const equals = text.indexOf('=');
  const parse = equals < 0 ? undefined : FAULTS.get(text.slice(0, equals));
  const plan = parse?.(text.slice(equals + 1));
  if (plan === undefined) throw new RangeError(`Not a fault: ${JSON.stringify(text)}; one of ${FAULT_USAGE}`);
  return plan;
}

function withCount(text: string, plan: (count: number) => FaultPlan): FaultPlan | undefined {
  return /^\d{1,9}$/.test(text) ? plan(Number(text)) : undefined;
}

function probability(text: string): FaultPlan | undefined {
  const eagainProbability = Number(text);
  const isValid = /^\d*\.?\d+$/.test(text) && eagainProbability <= 1;
  return isValid ? { eagainProbability } : undefined;
}

function fullQuotas(text: string): FaultPlan | undefined {
  const names = text.split(',');
  const areKnown = names.every((name) => QUOTA_NAMES.some((known) => known === name));
  return areKnown ? { fullQuotas: names } : undefined;
}
