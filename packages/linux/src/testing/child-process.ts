import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeFd } from '../fd.ts';
import { socketPair } from '../socket-calls.ts';
import { UnixStream } from '../unix-stream.ts';
import { LineChannel } from './line-channel.ts';

/** The descriptor at which a program started by `startProgram` finds its end of the channel. */
export const CHANNEL_FD = 3;

/** A Node process that runs a `.ts` program, and the channel to it. */
export interface Program {
  readonly process: ChildProcess;
  readonly channel: LineChannel;
  /** Ends the channel and waits for the program to end by itself; the exit code. */
  stop(): Promise<number | null>;
}

/** Starts a program of this repository with a `LineChannel` at `CHANNEL_FD`. */
export function startProgram(url: URL, args: readonly string[] = []): Program {
  const [ours, theirs] = socketPair();
  const stdio = ['ignore', 'inherit', 'inherit', theirs] as const;
  const child = spawn(process.execPath, ['--conditions=@virtlab/source', url.pathname, ...args], {
    stdio: [...stdio],
  });
  closeFd(theirs);
  const channel = new LineChannel(UnixStream.fromFd(ours));
  return {
    process: child,
    channel,
    async stop() {
      const ended = child.exitCode === null && child.signalCode === null ? once(child, 'exit') : undefined;
      channel.stream.close();
      await ended;
      return child.exitCode;
    },
  };
}
