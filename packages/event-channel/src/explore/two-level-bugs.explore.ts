import {
  WORD_SHIFT,
  PENDING_INDEX,
  MASK_INDEX,
  clearPending,
  selectorIndex,
  upcallIndex,
} from '../two-level.ts';
import { type Dispatch, handle, region, target, words } from './two-level-rig.explore.ts';

/** The same steps in a wrong order, or one of them left out. */
const bit = (port: number): number => 1 << (port & 31);

function select(port: number): void {
  const word = 1 << (port >>> WORD_SHIFT);
  if ((Atomics.or(words, selectorIndex(target, 0), word) & word) !== 0) return;
  Atomics.store(region.u8, upcallIndex(target, 0), 1);
  target.wake();
}

/** Takes the selector and looks at port 3 alone. */
function scan(run: (port: number) => void): void {
  Atomics.exchange(words, selectorIndex(target, 0), 0);
  const pending = Atomics.load(words, PENDING_INDEX) & ~Atomics.load(words, MASK_INDEX);
  if ((pending & bit(3)) !== 0) run(3);
}

function clearAndHandle(port: number): void {
  clearPending(target, port);
  handle(port);
}

const isUp = (): boolean => Atomics.load(region.u8, upcallIndex(target, 0)) !== 0;
const lower = (): void => void Atomics.store(region.u8, upcallIndex(target, 0), 0);

export function selectBeforePending(port: number): void {
  select(port);
  Atomics.or(words, PENDING_INDEX, bit(port));
}

export function maskBeforePending(port: number): void {
  const isMasked = (Atomics.load(words, MASK_INDEX) & bit(port)) !== 0;
  if ((Atomics.or(words, PENDING_INDEX, bit(port)) & bit(port)) === 0 && !isMasked) select(port);
}

/** Publishes the pending bit by a load and a plain store. */
export function pendingByPlainStore(port: number): void {
  const pending = words[PENDING_INDEX]!;
  if ((pending & bit(port)) !== 0) return;
  words[PENDING_INDEX] = pending | bit(port);
  if ((Atomics.load(words, MASK_INDEX) & bit(port)) === 0) select(port);
}

export function pendingBeforeUnmask(): void {
  const isPending = (Atomics.load(words, PENDING_INDEX) & bit(3)) !== 0;
  Atomics.and(words, MASK_INDEX, ~bit(3));
  if (isPending) select(3);
}

export const upcallAfterSelector = (): Dispatch => () => {
  if (!isUp()) return;
  scan(clearAndHandle);
  lower();
};

export const clearAfterHandler = (): Dispatch => () => {
  if (!isUp()) return;
  lower();
  scan((port) => {
    handle(port);
    clearPending(target, port);
  });
};

/** Not wrong for ports below 32. */
export const lowHalfOnly = (): Dispatch => () => {
  if (!isUp()) return;
  lower();
  scan(clearAndHandle);
};
