/**
 * The other process of the doorbell tests and benches: answers each ping that appears in shared memory with a
 * pong. Arguments: the longest spin in nanoseconds. The first line of the channel brings memory and the two
 * event fds.
 */
import { EventFd, UnixStream, closeFd, mapShared } from '@virtlab/linux';
import { CHANNEL_FD, LineChannel, startProgram, type Program } from '@virtlab/linux/testing';
import { createNodeAioContext, createSharedDoorbell } from '../node/index.ts';

export const ECHO_MEMORY_SIZE = 4096;

/** Words of the shared memory. */
export const PARENT_NOTIFY_ME = 0;
export const CHILD_NOTIFY_ME = 16;
export const PING = 32;
export const PONG = 48;

export interface Echo {
  readonly program: Program;
  readonly words: Int32Array;
  /** Wakes the child, and this process. */
  readonly childEvent: EventFd;
  readonly parentEvent: EventFd;
  /** Ends the child; its exit code and how often it slept and was woken. */
  stop(): Promise<{ readonly exitCode: number | null; readonly sleeps: number; readonly wakeUps: number }>;
}

/** Starts the child; `words`, mapped by the caller from `memoryFd`, is what both look at. */
export async function startEcho(words: Int32Array, memoryFd: number, spinMaxNs: number): Promise<Echo> {
  const childEvent = EventFd.create();
  const parentEvent = EventFd.create();
  const program = startProgram(new URL(import.meta.url), [String(spinMaxNs)]);
  program.channel.send({}, [memoryFd, childEvent.fd, parentEvent.fd]);
  const ready = await program.channel.next();
  if (ready === undefined) throw new Error('The echo program did not start');
  return {
    program,
    words,
    childEvent,
    parentEvent,
    async stop() {
      program.channel.send({});
      const line = await program.channel.next();
      const exitCode = await program.stop();
      childEvent.close();
      parentEvent.close();
      return { exitCode, ...(line?.value as { sleeps: number; wakeUps: number }) };
    },
  };
}

async function main(): Promise<void> {
  const channel = new LineChannel(UnixStream.fromFd(CHANNEL_FD));
  const [memoryFd, childFd, parentFd] = (await channel.next())!.fds as [number, number, number];
  using mapping = mapShared(memoryFd, ECHO_MEMORY_SIZE);
  closeFd(memoryFd);
  const words = new Int32Array(mapping.buffer);
  using childEvent = EventFd.fromFd(childFd);
  using parentEvent = EventFd.fromFd(parentFd);
  using context = createNodeAioContext({ polling: { maxNs: Number(process.argv[2]) } });
  const toParent = createSharedDoorbell({ words, notifyMeIndex: PARENT_NOTIFY_ME, eventFd: parentEvent });
  const toChild = createSharedDoorbell({ words, notifyMeIndex: CHILD_NOTIFY_ME, eventFd: childEvent });
  let seen = 0;
  using _ = toChild.receive(context, () => {
    const ping = Atomics.load(words, PING);
    if (ping === seen) return false;
    seen = ping;
    Atomics.store(words, PONG, ping);
    toParent.sender.ring();
    return true;
  });
  channel.send({ ready: true });
  await channel.next();
  channel.send({ sleeps: context.statistics.sleeps, wakeUps: context.statistics.wakeUps });
  await channel.next();
}

if (process.argv[1]?.endsWith('echo-program.ts')) await main();
