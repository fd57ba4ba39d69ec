import { writeFile } from 'node:fs/promises';
import { BenchUsageError, HELP, parseBenchOptions } from './options.ts';
import { performancePage } from './report/performance-page.ts';
import { textReport } from './report/text-report.ts';
import { runGroups } from './run-groups.ts';

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;
const EXIT_ENVIRONMENT = 3;

const FULL = { roundCount: 11, runMs: 80 };
const QUICK = { roundCount: 3, runMs: 20 };
const PAGE = new URL('../../../docs/performance.md', import.meta.url);

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  const isUsage = error instanceof BenchUsageError;
  const message = error instanceof Error ? error.message : String(error);
  process.stderr.write(`bench: ${message}\n${isUsage ? 'See --help.\n' : ''}`);
  process.exitCode = isUsage ? EXIT_USAGE : EXIT_FAILED;
}

async function main(args: readonly string[]): Promise<number> {
  const { groups, isQuick, isJson, isWrite, isHelp } = parseBenchOptions(args);
  if (isHelp) {
    process.stdout.write(HELP);
    return 0;
  }
  const onProgress = (line: string): void => void process.stderr.write(`${line}\n`);
  const report = await runGroups({ groups, ...(isQuick ? QUICK : FULL), onProgress });
  process.stdout.write(isJson ? `${JSON.stringify(report, null, 2)}\n` : `${textReport(report)}\n`);
  const skipped = report.groups.find((group) => group.skipped !== undefined);
  if (!isWrite) return 0;
  if (skipped !== undefined) {
    process.stderr.write(`bench: the page is not written: ${skipped.name} was skipped: ${skipped.skipped}\n`);
    return EXIT_ENVIRONMENT;
  }
  await writeFile(PAGE, performancePage(report));
  return 0;
}
