import { type Command, Option } from 'commander';
import {
  type XenstoreClient,
  XenstoreError,
  clientSocketPath,
  connectXenstore,
} from '@virtlab/xenstore/node/client';
import { newCommand } from '../command-table.ts';
import { EXIT_FAILED } from '../exit-codes.ts';

/** What every command of `virtlab xs` understands. */
export interface StoreFlags {
  readonly socket?: string;
  readonly json: boolean;
}

/** A command fails: `message` for stderr, if there is something to say, and the exit code. */
export class XsFailure extends Error {
  override readonly name = 'XsFailure';
  readonly exitCode: number;

  constructor(message: string, cause?: unknown, exitCode: number = EXIT_FAILED) {
    super(cause === undefined ? message : `${message}: ${reasonOf(cause)}`, { cause });
    this.exitCode = exitCode;
  }
}

/** A command of `virtlab xs` with the options that all have. Its wrong arguments end it with 1, as xenstore-utils do. */
export function storeCommand(name: string): Command {
  return newCommand(name, EXIT_FAILED)
    .option(
      '--socket <path>',
      'where the daemon listens (default: XENSTORED_PATH, $XENSTORED_RUNDIR/socket, …)',
    )
    .option('--json', 'print JSON', false)
    .addOption(new Option('-s', 'through the socket: the only way there is').hideHelp());
}

/** Connects, runs `body`, disconnects. Says what fails on stderr, and sets the process' exit code. */
export async function withStore(
  { socket }: Pick<StoreFlags, 'socket'>,
  body: (store: XenstoreClient) => Promise<void>,
): Promise<void> {
  try {
    const store = await connect(socket ?? clientSocketPath());
    try {
      await body(store);
    } finally {
      store.close();
    }
  } catch (error) {
    if (!(error instanceof XsFailure || error instanceof XenstoreError)) throw error;
    if (error.message !== '') process.stderr.write(`virtlab: ${error.message}\n`);
    process.exitCode = error instanceof XsFailure ? error.exitCode : EXIT_FAILED;
  }
}

async function connect(path: string): Promise<XenstoreClient> {
  try {
    return await connectXenstore(path);
  } catch (error) {
    const { code = String(error) } = error as NodeJS.ErrnoException;
    throw new XsFailure(
      `no xenstored answers at ${path} (${code}); start one with "virtlab xenstored" or name another socket`,
    );
  }
}

/** An error's code, or all of it when the code says little. */
function reasonOf(error: unknown): string {
  if (!(error instanceof XenstoreError)) return String(error);
  return error.code === 'EIO' ? error.message : error.code;
}

/** Turns the failure of `operation` into one of the command. */
export async function orFail<T>(operation: Promise<T>, message: string): Promise<T> {
  try {
    return await operation;
  } catch (error) {
    throw new XsFailure(message, error);
  }
}
