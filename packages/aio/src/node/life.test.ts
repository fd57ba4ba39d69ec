import { spawnSync } from 'node:child_process';
import { describeWithFfi } from '@virtlab/linux/testing';
import { describe, expect, it } from 'vitest';

/** Runs a program in a process of its own; 'ended' by itself, or 'alive' after the time it is given. */
function outcome(program: string, timeoutMs: number): string {
  const flags = ['--conditions=@virtlab/source', '--input-type=module-typescript', '--eval', program];
  const cwd = new URL('../..', import.meta.url);
  const { status, signal, stderr } = spawnSync(process.execPath, flags, {
    cwd,
    timeout: timeoutMs,
    encoding: 'utf8',
  });
  if (signal !== null) return 'alive';
  return status === 0 ? 'ended' : stderr;
}

const ENDS_WITHIN_MS = 15_000;

describe('an idle context and the process', () => {
  it('a portable context that ran does not keep the process alive', () => {
    const program = `
      import { createAioContext } from '@virtlab/aio';
      const context = createAioContext();
      const notifier = context.createEventNotifier();
      context.addHandler(notifier, { onReady() {} });
      context.addPoller({ poll: () => false });
      context.createBottomHalf(() => {}).schedule();
      notifier.set();
    `;
    expect(outcome(program, ENDS_WITHIN_MS)).toBe('ended');
  });

  it('an exception of a callback reaches the process', () => {
    const program = `
      import { createAioContext } from '@virtlab/aio';
      createAioContext().createBottomHalf(() => { throw new Error('from a bottom half'); }).schedule();
    `;
    expect(outcome(program, ENDS_WITHIN_MS)).toMatch(/from a bottom half/);
  });
});

describeWithFfi('a wake source and the process', () => {
  const attached = `
    import { EventFd } from '@virtlab/linux';
    import { createNodeAioContext, createSharedDoorbell } from '@virtlab/aio/node';
    const context = createNodeAioContext();
    const doorbell = createSharedDoorbell({ words: new Int32Array(4), notifyMeIndex: 0, eventFd: EventFd.create() });
    const receiver = doorbell.receive(context, () => false);
  `;

  it('keeps it alive while attached', () => {
    expect(outcome(attached, 700)).toBe('alive');
  });

  it('lets it end when disposed, or with the context', () => {
    expect(outcome(`${attached} receiver[Symbol.dispose]();`, ENDS_WITHIN_MS)).toBe('ended');
    expect(outcome(`${attached} context[Symbol.dispose]();`, ENDS_WITHIN_MS)).toBe('ended');
  });
});
