// Holds the packages against the layers of docs/architecture.md; exits 1 and names each breach.
import { checkWorkspace } from './rules.ts';
import { readWorkspace } from './workspace.ts';

const packages = readWorkspace('.');
const breaches = checkWorkspace(packages);
for (const breach of breaches) console.error(breach);
console.log(`${packages.length} packages, ${breaches.length} layer breaches`);
process.exitCode = breaches.length === 0 ? 0 : 1;
