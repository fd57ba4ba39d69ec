// Runs the whole grid and writes docs/matrix.md.
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { DOORBELLS, PROCESS_TRANSPORTS, TRANSPORTS } from './grid.ts';
import { GridReport, PAGE } from './report.ts';
import { runInProcesses, runInThread } from './run-grid.ts';

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
