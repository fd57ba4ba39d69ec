import { startRealXenstored } from '../real-xenstored.ts';
import type { RealXenstoredKind } from '../contract.ts';

/** Program of a test: starts a daemon, says where it is, and waits to be killed. Arguments: kind, and a program if another. */
const [kind, program] = process.argv.slice(2);
const daemon = await startRealXenstored({
  kind: kind as RealXenstoredKind,
  ...(program === undefined ? {} : { program }),
});
await daemon.createDomain(5);
process.stdout.write(`${JSON.stringify({ pid: daemon.pid, socketPath: daemon.socketPath })}\n`);
