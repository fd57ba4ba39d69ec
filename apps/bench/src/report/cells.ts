import type { ComparisonReport, ContenderReport, GroupReport } from './report.ts';

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

export function formatRatio(ratio: number): string {
  return `${formatDigits(ratio)} ×`;
}

export function formatCount(count: number): string {
  if (count === 0) return '0';
  return count < 0.001 ? '< 0.001' : count.toFixed(3);
}

/** All of a comparison: a row for each contender, a column for our ratio to each peer. */
export function comparisonCells({ operation, contenders }: ComparisonReport): Cells {
  const peers = contenders.filter(({ isPeer }) => isPeer).map(({ name }) => name);
  const has = (pick: (contender: ContenderReport) => unknown): boolean =>
    contenders.some((contender) => pick(contender) !== undefined);
  const withBudget = has(({ budgetNs }) => budgetNs);
  const withDoorbells = has(({ doorbells }) => doorbells);
  const withWakeUps = has(({ doorbells }) => doorbells?.wakeUps);
  const head = [
    `per ${operation}`,
    'median',
    'min',
    'max',
    ...(withBudget ? ['budget'] : []),
    ...peers.map((peer) => `÷ ${peer}`),
    ...(withDoorbells ? ['kicks', 'calls'] : []),
    ...(withWakeUps ? ['wake-ups'] : []),
  ];
  const rows = contenders.map((contender) => {
    const { name, nsPerOperation, budgetNs, against, doorbells } = contender;
    const count = (value: number | undefined): string => (value === undefined ? NONE : formatCount(value));
    return [
      name,
      formatNs(nsPerOperation.median),
      formatNs(nsPerOperation.min),
      formatNs(nsPerOperation.max),
      ...(withBudget ? [budgetNs === undefined ? NONE : formatNs(budgetNs)] : []),
      ...peers.map((peer) => {
        const found = against.find((each) => each.peer === peer);
        return found === undefined ? NONE : formatRatio(found.ratio);
      }),
      ...(withDoorbells ? [count(doorbells?.kicks), count(doorbells?.calls)] : []),
      ...(withWakeUps ? [count(doorbells?.wakeUps)] : []),
    ];
  });
  return { head, rows };
}

/** Every contender with a budget, and whether it kept to it. */
export function budgetCells(groups: readonly GroupReport[]): Cells {
  const rows = groups.flatMap(({ title, comparisons }) =>
    comparisons.flatMap((comparison) =>
      comparison.contenders.flatMap(({ name, budgetNs, nsPerOperation: { median } }) => {
        if (budgetNs === undefined) return [];
        const what = `${title}: ${comparison.title}: ${name}`;
        return [[what, formatNs(budgetNs), formatNs(median), median <= budgetNs ? 'yes' : 'no']];
      }),
    ),
  );
  return { head: ['what', 'budget', 'median', 'reached'], rows };
}

function formatDigits(value: number): string {
  if (value >= 100) return value.toFixed(0);
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
