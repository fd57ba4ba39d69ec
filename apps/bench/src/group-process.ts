// One group in a process of its own, so that no group runs on code that was optimized for another.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { noteToParent, serveParent } from './child.ts';
import type { GroupName } from './group-names.ts';
import { runGroup } from './groups.ts';

export interface GroupQuestion {
  readonly name: GroupName;
  readonly roundCount: number;
  readonly runMs: number;
}

const folder = mkdtempSync(join(tmpdir(), 'virtlab-bench-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => process.exit(1));

serveParent((question) => {
  const { name, roundCount, runMs } = question as GroupQuestion;
  return runGroup(name, { roundCount, runMs, folder, onProgress: noteToParent });
});
