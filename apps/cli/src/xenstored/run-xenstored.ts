import { DumpError } from '@virtlab/xenstore';
import { type Xenstored, type XenstoredOptions, startXenstored } from '@virtlab/xenstore/node';
import { EndSignals, exitCodeOf } from '../end-signals.ts';
import { EXIT_ENVIRONMENT, EXIT_FAILED, EXIT_USAGE } from '../exit-codes.ts';
import { standardOutputOfDaemon } from '../standard-output.ts';
import { StartError } from '../start-error.ts';
import { type XenstoredFlags, startOptions } from './start-options.ts';

/**
 * Runs a daemon until SIGINT or SIGTERM, or until nobody reads its output any more, then ends it in order and the process with the
 * exit code of that.
 */
export async function runXenstored(flags: XenstoredFlags): Promise<void> {
  const unread = standardOutputOfDaemon();
  const ended = new EndSignals();
  let daemon: Xenstored;
  try {
    daemon = await start(startOptions(flags, (line) => void process.stderr.write(`${line}\n`)));
  } catch (error) {
    ended.release();
    if (!(error instanceof StartError)) throw error;
    process.stderr.write(`virtlab: ${error.message}\n`);
    process.exitCode = error.kind === 'usage' ? EXIT_USAGE : EXIT_ENVIRONMENT;
    return;
  }
  process.on('SIGHUP', () => void reopenLogs(daemon));
  process.stdout.write(readyLine(daemon, flags));
  process.exit(await end(daemon, await Promise.race([ended.first.then(exitCodeOf), unread])));
}

/** Rejects with `StartError` for what the user can do something about. */
async function start(options: XenstoredOptions): Promise<Xenstored> {
  try {
    return await startXenstored(options);
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    if (error instanceof DumpError) {
      throw new StartError('usage', `--restore ${options.restore}: ${error.message}`);
    }
    if ('code' in error) throw new StartError('environment', error.message);
    throw error;
  }
}

/** Ends the daemon; resolves with the exit code, which is `wanted` if it ends in order. */
async function end(daemon: Xenstored, wanted: number): Promise<number> {
  process.stderr.write('virtlab: shutting down\n');
  try {
    await daemon.close();
  } catch (error) {
    process.stderr.write(`virtlab: ${messageOf(error)}\n`);
    return EXIT_FAILED;
  }
  return wanted;
}

async function reopenLogs(daemon: Xenstored): Promise<void> {
  try {
    await daemon.reopenLogs();
  } catch (error) {
    process.stderr.write(`virtlab: the access log: ${messageOf(error)}\n`);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function readyLine({ socketPath }: Xenstored, { profile, json }: XenstoredFlags): string {
  if (json) return `${JSON.stringify({ socketPath, profile, pid: process.pid })}\n`;
  return `xenstored (${profile}) listens at ${socketPath}; export XENSTORED_PATH=${shellWord(socketPath)}\n`;
}

function shellWord(text: string): string {
  return /^[-\w./@:+,]+$/.test(text) ? text : `'${text.replaceAll("'", String.raw`'\''`)}'`;
}
