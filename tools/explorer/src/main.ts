import { globSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type ExplorationCase, runCase } from './cases.ts';
import { ExplorerUsageError, USAGE, chosen, parseExplorerOptions } from './options.ts';
import { formatTable, replaceTable, rowsOf } from './table.ts';

/** Runs the `explorations` of all `*.explore.ts` of the workspace, as `USAGE` says. */
const WORKSPACE = join(import.meta.dirname, '../../..');
const PAGE = join(WORKSPACE, 'docs/signalling.md');
const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

/** A file that cannot be loaded is a problem, and does not keep the others from being run. */
async function findCases(problems: string[]): Promise<readonly ExplorationCase[]> {
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

/** Answers the exit code. Rejects with `ExplorerUsageError`. */
async function main(args: readonly string[]): Promise<number> {
  const { names, isWrite, isHelp } = parseExplorerOptions(args);
  if (isHelp) {
    process.stdout.write(USAGE);
    return 0;
  }
  const problems: string[] = [];
  const outcomes = chosen(await findCases(problems), names).map(runCase);
  const table = formatTable(outcomes.flatMap(rowsOf));
  problems.push(...outcomes.flatMap((outcome) => outcome.problems));
  const stateCount = outcomes.flatMap(({ counts }) => counts).reduce((sum, each) => sum + each.stateCount, 0);
  console.log(table);
  console.log(`\n${stateCount} states; ${problems.length} problems`);
  for (const problem of problems) console.log(`\n${problem}`);
  if (problems.length > 0 || outcomes.length === 0) return EXIT_FAILED;
  if (isWrite) writeFileSync(PAGE, replaceTable(readFileSync(PAGE, 'utf8'), table));
  return 0;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof ExplorerUsageError)) throw error;
  process.stderr.write(`explore: ${error.message.trimEnd()}\nSee --help.\n`);
  process.exitCode = EXIT_USAGE;
}
