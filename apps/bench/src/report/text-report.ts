import Table from 'cli-table3';
import { type Cells, budgetCells, comparisonCells } from './cells.ts';
import { machineLines } from './machine.ts';
import { state } from './performance-page.ts';
import type { BenchReport } from './report.ts';

/** The report for a terminal. */
export function textReport(report: BenchReport): string {
  const { machine, roundCount, groups } = report;
  const parts = [...machineLines(machine), `Rounds: ${roundCount}`];
  for (const group of groups) {
    const { title, comparisons, curves, skipped } = group;
    parts.push('', `== ${title}`, ...state(group));
    if (skipped !== undefined) parts.push(`skipped: ${skipped}`);
    for (const comparison of comparisons) {
      parts.push('', comparison.title, textTable(comparisonCells(comparison)));
    }
    for (const curve of curves) parts.push('', curve.title, textTable(curve));
  }
  const budgets = budgetCells(groups);
  if (budgets.rows.length > 0) parts.push('', '== Budgets', textTable(budgets));
  return parts.join('\n');
}

function textTable({ head, rows }: Cells): string {
  const table = new Table({
    head: [...head],
    colAligns: head.map((_, column) => (column === 0 ? 'left' : 'right')),
    style: { head: [], border: [], compact: true },
  });
  for (const row of rows) table.push([...row]);
  return table.toString();
}
