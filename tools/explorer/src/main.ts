import { globSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type CaseOutcome, type ExplorationCase, runCase } from './cases.ts';
import { formatTable, replaceTable, rowsOf } from './table.ts';

/**
 * Runs the `explorations` of all `*.explore.ts` of the workspace; arguments name those to run. Fails if one does not hold.
 * `--write` puts the table into `docs/signalling.md`.
 */
const WORKSPACE = join(import.meta.dirname, '../../..');
const PAGE = join(WORKSPACE, 'docs/signalling.md');

const problems: string[] = [];

/** A file that cannot be loaded is a problem, and does not keep the others from being run. */
async function findCases(): Promise<readonly ExplorationCase[]> {
  const cases: ExplorationCase[] = [];
  for (const path of globSync('{packages,apps,tools}/*/src/**/*.explore.ts', { cwd: WORKSPACE }).toSorted()) {
    try {
      const module = (await import(pathToFileURL(join(WORKSPACE, path)).href)) as {
        readonly explorations?: readonly ExplorationCase[];
      };
      cases.push(...(module.explorations ?? []));
    } catch (error) {
      problems.push(`${path}: ${String(error)}`);
    }
  }
  return cases;
}

const writes = process.argv.includes('--write');
const wanted = process.argv.slice(2).filter((argument) => argument !== '--write');
const outcomes: CaseOutcome[] = [];
for (const each of await findCases()) {
  if (wanted.length > 0 && !wanted.some((name) => each.name.includes(name))) continue;
  outcomes.push(runCase(each));
}
const table = formatTable(outcomes.flatMap(rowsOf));
problems.push(...outcomes.flatMap((outcome) => outcome.problems));
const stateCount = outcomes.flatMap(({ counts }) => counts).reduce((sum, each) => sum + each.stateCount, 0);
console.log(table);
console.log(`\n${stateCount} states; ${problems.length} problems`);
for (const problem of problems) console.log(`\n${problem}`);
if (writes && wanted.length === 0 && problems.length === 0)
  writeFileSync(PAGE, replaceTable(readFileSync(PAGE, 'utf8'), table));
process.exitCode = problems.length > 0 || outcomes.length === 0 ? 1 : 0;
