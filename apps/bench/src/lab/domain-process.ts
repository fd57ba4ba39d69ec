// The process of a benchmark's domain: as every domain's, but the arguments of its program may say how its event loop polls.
import { type PollingOptions, createNodeAioContext } from '@virtlab/aio/node';
import { runProgram } from '@virtlab/domain';
import { connectHypervisor } from '@virtlab/hypervisor/node';

/** What a program's arguments may hold besides its own. */
export interface DomainArguments {
  readonly polling?: PollingOptions | undefined;
}

/** The program failed before or while it started. */
const EXIT_PROGRAM_FAILED = 1;

if (process.argv[1] === import.meta.filename) await main();

async function main(): Promise<void> {
  const connection = await connectHypervisor();
  connection.onClose(() => process.exit(0));
  const fail = async (error: unknown): Promise<never> => {
    const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
    try {
      await connection.call('console_write', { kind: 'panic', message });
    } finally {
      process.exit(EXIT_PROGRAM_FAILED);
    }
  };
  process.on('uncaughtException', (error) => void fail(error));
  try {
    const { polling } = (connection.program.args ?? {}) as DomainArguments;
    await runProgram(connection, createNodeAioContext(polling === undefined ? {} : { polling }));
  } catch (error) {
    await fail(error);
  }
}
