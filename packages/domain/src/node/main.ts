// The process of a domain: finds its hypervisor on an inherited socket and runs its program.
import { createNodeAioContext } from '@virtlab/aio/node';
import { connectHypervisor } from '@virtlab/hypervisor/node';
import { runProgram } from '../program.ts';

/** The program failed before or while it started. */
const EXIT_PROGRAM_FAILED = 1;
/** The hypervisor is gone: nothing can be said to anybody any more. */
const EXIT_NO_HYPERVISOR = 0;

const connection = await connectHypervisor();
process.on('uncaughtException', (error) => void panic(error));
connection.onClose(() => process.exit(EXIT_NO_HYPERVISOR));
try {
  await runProgram(connection, createNodeAioContext());
} catch (error) {
  await panic(error);
}

async function panic(error: unknown): Promise<never> {
  const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
  try {
    await connection.call('console_write', { kind: 'panic', message });
  } finally {
    process.exit(EXIT_PROGRAM_FAILED);
  }
}
