import { formatShare } from './machine.ts';
import type { ComparisonReport, ContenderReport, MeasuredGroup } from './report.ts';

/** A table as text: the first column is the row's name, the others are figures. */
export interface Cells {
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

const NONE = '';

/** `12.3 ns`, `45.6 µs`, `1.23 ms`: three digits. */
export function formatNs(ns: number): string {
  const [value, unit] = ns < 1000 ? [ns, 'ns'] : ns < 1e6 ? [ns / 1000, 'µs'] : [ns / 1e6, 'ms'];
  return `${formatDigits(value)} ${unit}`;
}

/** `123`, `45.6 k`, `1.23 M`: three digits. */
export function formatRate(perSecond: number): string {
  if (perSecond < 1000) return formatDigits(perSecond);
  return perSecond < 1e6 ? `${formatDigits(perSecond / 1000)} k` : `${formatDigits(perSecond / 1e6)} M`;
}

export function formatRatio(ratio: number): string {
  return `${formatDigits(ratio)} ×`;
}

export function formatCount(count: number): string {
  if (count === 0) return '0';
  return count < 0.001 ? '< 0.001' : count.toFixed(3);
}

/** All of a comparison: a row for each contender, a column for our ratio to each peer. */
export function comparisonCells({ operation, operationSize, contenders }: ComparisonReport): Cells {
  const peers = contenders.filter(({ isPeer }) => isPeer).map(({ name }) => name);
  const has = (pick: (contender: ContenderReport) => unknown): boolean =>
    contenders.some((contender) => pick(contender) !== undefined);
  const withBudget = has(({ budgetNs }) => budgetNs);
  const withDoorbells = has(({ doorbells }) => doorbells);
  const withWakeUps = has(({ doorbells }) => doorbells?.wakeUps);
  const withCpu = has(({ cpuNs }) => cpuNs);
  const withPublished = has(({ published }) => published);
  const counted = [...new Set(contenders.flatMap(({ counts }) => Object.keys(counts)))];
  const head = [
    `per ${operation}`,
    'median',
    'min',
    'max',
    ...(operationSize === undefined ? [] : ['per second', 'MB/s']),
    ...(withBudget ? ['budget'] : []),
    ...peers.map((peer) => `÷ ${peer}`),
    ...(withDoorbells ? ['kicks', 'calls'] : []),
    ...(withWakeUps ? ['wake-ups'] : []),
    ...counted,
    ...(withCpu ? ['CPU'] : []),
    ...(withPublished ? ['published, another run'] : []),
  ];
  const rows = contenders.map((contender) => {
    const { name, nsPerOperation, budgetNs, against, doorbells, counts, cpuNs, published } = contender;
    const count = (value: number | undefined): string => (value === undefined ? NONE : formatCount(value));
    return [
      name,
      formatNs(nsPerOperation.median),
      formatNs(nsPerOperation.min),
      formatNs(nsPerOperation.max),
      ...(operationSize === undefined ? [] : rates(nsPerOperation.median, operationSize)),
      ...(withBudget ? [budgetNs === undefined ? NONE : formatNs(budgetNs)] : []),
      ...peers.map((peer) => {
        const found = against.find((each) => each.peer === peer);
        return found === undefined ? NONE : formatRatio(found.ratio);
      }),
      ...(withDoorbells ? [count(doorbells?.kicks), count(doorbells?.calls)] : []),
      ...(withWakeUps ? [count(doorbells?.wakeUps)] : []),
      ...counted.map((each) => count(counts[each])),
      ...(withCpu ? [cpuNs === undefined ? NONE : formatNs(cpuNs)] : []),
      ...(withPublished ? [published ?? NONE] : []),
    ];
  });
  return { head, rows };
}

/** Operations and megabytes (10⁶ bytes) in a second. */
function rates(ns: number, operationSize: number): readonly [string, string] {
  return [formatRate(1e9 / ns), formatDigits((operationSize / ns) * 1000)];
}

/** Every contender with a budget, whether it kept to it, and what others had of the processors meanwhile. */
export function budgetCells(groups: readonly MeasuredGroup[]): Cells {
  const rows = groups.flatMap(({ title, comparisons, othersShare }) =>
    comparisons.flatMap((comparison) =>
      comparison.contenders.flatMap(({ name, budgetNs, nsPerOperation: { median } }) => {
        if (budgetNs === undefined) return [];
        const what = `${title}: ${comparison.title}: ${name}`;
        const others = othersShare === undefined ? NONE : formatShare(othersShare);
        return [[what, formatNs(budgetNs), formatNs(median), median <= budgetNs ? 'yes' : 'no', others]];
      }),
    ),
  );
  return { head: ['what', 'budget', 'median', 'reached', 'others had'], rows };
}

function formatDigits(value: number): string {
  if (value >= 100) return value.toFixed(0);
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
