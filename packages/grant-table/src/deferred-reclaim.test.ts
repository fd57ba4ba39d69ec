import type { GrantHandle, GrantRef } from '@virtlab/abi/brands';
import { describe, expect, it } from 'vitest';
import { keepReclaiming } from './deferred-reclaim.ts';
import { createTestMachine, versionedView } from './testing.ts';

/** A timer that runs when the test says so. */
function manualTimer() {
  const armed: number[] = [];
  let run = (): void => {};
  let isDisposed = false;
  return {
    armed,
    fire: () => run(),
    isDisposed: () => isDisposed,
    createTimer: (callback: () => void) => {
      run = callback;
      return {
        arm: (delayMs: number) => void armed.push(delayMs),
        [Symbol.dispose]: () => void (isDisposed = true),
      };
    },
  };
}

describe.each([1, 2] as const)('retrying deferred ends of a version %s table', (version) => {
  it('begins with the first that is deferred, goes on a few at a time while any waits, and stops', () => {
    const { granter, mappers } = createTestMachine(1, [versionedView(version, 1)]);
    const { mapper, domain } = mappers[0]!;
    const timer = manualTimer();
    const reclaiming = keepReclaiming(granter.table, {
      createTimer: timer.createTimer,
      intervalMs: 500,
      countPerRun: 2,
    });
    const refs = [1, 2, 3].map((frame) => granter.table.grantAccess(domain, frame, false) as GrantRef);
    const handles = refs.map((ref) => mapper.map(granter.domain, ref, true) as GrantHandle);
    expect(timer.armed).toEqual([]);
    const ended: number[] = [];
    for (const ref of refs) granter.table.endOrDefer(ref, () => ended.push(ref));
    expect(timer.armed).toEqual([500]);
    timer.fire();
    expect(timer.armed).toEqual([500, 500]);
    for (const handle of handles) mapper.unmap(handle);
    timer.fire();
    expect(ended).toEqual([refs[2], refs[0]]);
    expect(timer.armed).toHaveLength(3);
    timer.fire();
    expect(ended).toHaveLength(3);
    expect(timer.armed).toHaveLength(3);
    expect(granter.table.deferral).toEqual({
      waitingCount: 0,
      waitingCountMax: 3,
      deferredTotal: 3,
      reclaimedTotal: 3,
      retryTotal: 2,
    });
    reclaiming[Symbol.dispose]();
    expect(timer.isDisposed()).toBe(true);
  });

  it('takes up what waits already', () => {
    const { granter, mappers } = createTestMachine(1, [versionedView(version, 1)]);
    const { mapper, domain } = mappers[0]!;
    const ref = granter.table.grantAccess(domain, 1, false) as GrantRef;
    const handle = mapper.map(granter.domain, ref, true) as GrantHandle;
    granter.table.endOrDefer(ref);
    const timer = manualTimer();
    keepReclaiming(granter.table, { createTimer: timer.createTimer });
    expect(timer.armed).toEqual([1000]);
    mapper.unmap(handle);
    timer.fire();
    expect(granter.table.live()).toEqual([]);
  });
});
