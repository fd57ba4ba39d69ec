// Runs the whole grid and writes docs/matrix.md.
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { DOORBELLS, PROCESS_TRANSPORTS, TRANSPORTS } from './grid.ts';
import { GridReport, PAGE } from './report.ts';
import { runInProcesses, runInThread } from './run-grid.ts';

const EXIT_USAGE = 2;
const USAGE = `Usage: npm run matrix

Runs the whole grid, every device over every transport, and writes docs/matrix.md. It fails with the first cell that does.

  --help  this text
`;

async function writeGrid(): Promise<void> {
  const report = new GridReport();
  for (const transport of TRANSPORTS) {
    console.log(`${transport}, in one process`);
    await runInThread(transport, report);
  }
  for (const transport of PROCESS_TRANSPORTS) {
    for (const doorbells of DOORBELLS) {
      console.log(`${transport}, between processes, ${doorbells} doorbells`);
      await runInProcesses(transport, doorbells, report);
    }
  }
  writeFileSync(PAGE, report.render());
  console.log(`Written: ${fileURLToPath(PAGE)}`);
}

/** Undefined when there is nothing to run; then it has been said why. */
function parsed(): { readonly help?: boolean } | undefined {
  try {
    return parseArgs({ options: { help: { type: 'boolean' } } }).values;
  } catch (error) {
    process.stderr.write(`matrix: ${(error as Error).message}\nSee --help.\n`);
    process.exitCode = EXIT_USAGE;
    return undefined;
  }
}

const values = parsed();
if (values?.help === true) process.stdout.write(USAGE);
else if (values !== undefined) await writeGrid();
