import type { CaseOutcome } from './cases.ts';

const HEADINGS = [
  'model',
  'memory',
  'threads',
  'states',
  'transitions',
  'ends',
  'result',
  'planted bugs',
] as const;
/** The first columns are words, the counts are aligned to the right. */
const NUMERIC = new Set([2, 3, 4, 5]);

export function rowsOf({
  name,
  counts,
  bugsFound,
  bugsPlanted,
}: CaseOutcome): readonly (readonly string[])[] {
  return counts.map((count, index) => [
    name,
    count.memoryModel,
    `${count.threadCount}`,
    `${count.stateCount}`,
    `${count.transitionCount}`,
    `${count.endCount}`,
    count.holds ? 'holds' : 'FAILS',
    index > 0 ? '' : bugsPlanted === 0 ? 'none' : `${bugsFound} of ${bugsPlanted} found`,
  ]);
}

/** A table in the form of Markdown. */
export function formatTable(rows: readonly (readonly string[])[]): string {
  const widths = HEADINGS.map((heading, column) =>
    Math.max(heading.length, ...rows.map((row) => row[column]!.length)),
  );
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, column) => (NUMERIC.has(column) ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!))).join(' | ')} |`;
  const rule = `| ${widths.map((width, column) => (NUMERIC.has(column) ? `${'-'.repeat(width - 1)}:` : '-'.repeat(width))).join(' | ')} |`;
  return [line(HEADINGS), rule, ...rows.map(line)].join('\n');
}

/** The page with its table of explorations replaced. Throws when it has none. */
export function replaceTable(page: string, table: string): string {
  const lines = page.split('\n');
  const first = lines.findIndex((line) => line.startsWith(`| ${HEADINGS[0]} `) && line.includes(HEADINGS[1]));
  if (first < 0) throw new TypeError('The page has no table of explorations');
  let end = first;
  while (lines[end]?.startsWith('|') === true) end += 1;
  return [...lines.slice(0, first), ...table.split('\n'), ...lines.slice(end)].join('\n');
}
