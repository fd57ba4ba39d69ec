import { isAccess, isWrite } from './action.ts';
import { type State, type Step, actionOf } from './steps.ts';
import type { World } from './world.ts';

/**
 * Which steps others can see. An access to a word that only one thread ever uses, or that nobody ever writes, commutes
 * with everything that the others do, so it need not be interleaved with them. Which words these are is found by assuming
 * that all are and exploring again when a word turns out otherwise; at the fixed point the assumption held throughout.
 */
export class Visibility {
  readonly #world: World;
  readonly #isReduced: boolean;
  /** By cell, a bit for each thread. */
  readonly #users: number[] = [];
  readonly #writers: number[] = [];
  /** By cell. */
  readonly #shared: boolean[] = [];
  #sharedCount = 0;

  constructor(world: World, isReduced: boolean) {
    this.#world = world;
    this.#isReduced = isReduced;
  }

  /** Takes notice of what a step touches. */
  observe(state: State, { thread, kind }: Step): void {
    if (kind !== 'act') return;
    const action = actionOf(this.#world, state, thread);
    if (action.kind === 'sleep') this.#use(action.offset, thread, action.takes);
    else if (isAccess(action)) this.#use(action.offset, thread, isWrite(action));
  }

  /**
   * Steps that are enough, because those of the others may as well come after them: one that nobody can see, and being
   * killed before it. `undefined` if there is none.
   */
  sufficient(steps: readonly Step[], state: State): readonly Step[] | undefined {
    if (!this.#isReduced) return undefined;
    for (const { kind, thread } of steps) {
      if (kind === 'flush' && this.#isOwn(state.buffers[thread]![0]!))
        return steps.filter((each) => each.thread === thread && each.kind === 'flush');
      if (kind === 'act' && this.#isInvisible(state, thread))
        return steps.filter((each) => each.thread === thread && each.kind !== 'flush');
    }
    return undefined;
  }

  /** Whether words have become shared since the last time. */
  hasChanged(): boolean {
    const before = this.#sharedCount;
    for (const [cell, users] of this.#users.entries()) {
      if ((users & (users - 1)) === 0 || this.#writers[cell] === 0 || this.#shared[cell] === true) continue;
      this.#shared[cell] = true;
      this.#sharedCount += 1;
    }
    return this.#isReduced && this.#sharedCount !== before;
  }

  #isInvisible(state: State, thread: number): boolean {
    const action = actionOf(this.#world, state, thread);
    if (action.kind === 'choose' || action.kind === 'awaitEnd' || action.kind === 'fence') return true;
    // Into the buffer: only the way from there to memory is seen.
    if (action.kind === 'store' && this.#world.memoryModel === 'tso') return true;
    return (isAccess(action) || action.kind === 'sleep') && this.#isOwn(action.offset);
  }

  #isOwn(offset: number): boolean {
    return this.#shared[this.#world.cellOf(offset)] !== true;
  }

  #use(offset: number, thread: number, writes: boolean): void {
    const cell = this.#world.cellOf(offset);
    while (this.#users.length <= cell) {
      this.#users.push(0);
      this.#writers.push(0);
    }
    this.#users[cell]! |= 1 << thread;
    if (writes) this.#writers[cell]! |= 1 << thread;
  }
}
