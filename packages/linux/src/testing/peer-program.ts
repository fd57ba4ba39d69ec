/**
 * The other process of this package's tests: does what the lines of the channel say, until the channel ends.
 */
import { EventFd } from '../event-fd.ts';
import { closeFd } from '../fd.ts';
import { LinuxError } from '../linux-error.ts';
import { PollSet } from '../poll-set.ts';
import { mapShared, memfdCreate } from '../shared-memory.ts';
import { UnixStream } from '../unix-stream.ts';
import { CHANNEL_FD } from './child-process.ts';
import { LineChannel } from './line-channel.ts';

interface Command {
  readonly op: 'fill' | 'add' | 'echo' | 'make';
  readonly size: number;
  readonly count: number;
}

/** Words of the memory of `add`: the two processes meet at word 0 and then add to the others. */
export const MEET_WORD = 0;
export const SUM_WORD = 1;
export const PLAIN_WORD = 2;
export const SUM16_INDEX = 6;
const MEET_TRIES = 50_000_000;

/** Adds `count` to the shared sums together with another process that does the same. */
export function addTogether(buffer: ArrayBuffer, count: number): void {
  const words = new Int32Array(buffer);
  const halfWords = new Uint16Array(buffer);
  Atomics.add(words, MEET_WORD, 1);
  for (let tries = 0; Atomics.load(words, MEET_WORD) < 2 && tries < MEET_TRIES; tries++);
  for (let i = 0; i < count; i++) {
    Atomics.add(words, SUM_WORD, 1);
    Atomics.add(halfWords, SUM16_INDEX, 1);
    words[PLAIN_WORD] = words[PLAIN_WORD]! + 1;
  }
}

function echo(kickFd: number, callFd: number, count: number): void {
  using kick = EventFd.fromFd(kickFd);
  using call = EventFd.fromFd(callFd);
  const set = new PollSet();
  set.add(kick.fd);
  for (let i = 0; i < count; i++) {
    if (set.wait(5000) === 0) throw new Error(`kick ${i} of ${count} did not come`);
    kick.read();
    call.write();
  }
}

function perform(command: Command, fds: readonly number[]): number[] {
  switch (command.op) {
    case 'fill': {
      using mapping = mapShared(fds[0]!, command.size);
      new Uint8Array(mapping.buffer).fill(command.count);
      closeFd(fds[0]!);
      return [];
    }
    case 'add': {
      using mapping = mapShared(fds[0]!, command.size);
      addTogether(mapping.buffer, command.count);
      closeFd(fds[0]!);
      return [];
    }
    case 'echo':
      echo(fds[0]!, fds[1]!, command.count);
      return [];
    case 'make':
      return Array.from({ length: command.count }, () => memfdCreate('peer', command.size));
    default:
      throw new TypeError(`Unknown command ${JSON.stringify(command)}`);
  }
}

export async function main(): Promise<void> {
  const channel = new LineChannel(UnixStream.fromFd(CHANNEL_FD));
  for (;;) {
    const line = await channel.next();
    if (line === undefined) return;
    try {
      const made = perform(line.value as Command, line.fds);
      channel.send({ ok: true, pid: process.pid }, made);
      made.forEach(closeFd);
    } catch (error) {
      channel.send({ ok: false, code: error instanceof LinuxError ? error.code : String(error) });
    }
  }
}

if (process.argv[1]?.endsWith('peer-program.ts')) await main();
