// Runs the whole grid and writes docs/matrix.md.
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { DOORBELLS, TRANSPORTS } from './grid.ts';
import { GridReport, PAGE } from './report.ts';
import { runInProcesses, runInThread } from './run-grid.ts';

const report = new GridReport();
for (const transport of TRANSPORTS) {
  console.log(`${transport}, in one process`);
  await runInThread(transport, report);
  if (transport === 'memory') continue;
  for (const doorbells of DOORBELLS) {
    console.log(`${transport}, domains as processes, ${doorbells} doorbells`);
    await runInProcesses(transport, doorbells, report);
  }
}
writeFileSync(PAGE, report.render());
console.log(`Written: ${fileURLToPath(PAGE)}`);
