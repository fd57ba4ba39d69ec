import type { Action } from './action.ts';
import { type Run, rerun } from './running.ts';
import type { Shared } from './shared.ts';

/** A thread that runs once. It must depend on nothing but what its accesses return: it is run many times over. */
export type Body = (shared: Shared) => void;

/**
 * A thread that runs in rounds. What it keeps from one round to the next is a plain value, so that two histories that
 * leave it with the same value are one state: loops end.
 */
export interface Rounds<Local> {
  readonly start: Local;
  /** One round, with at least one access; the value for the next round, or `undefined` to end. `local` is not changed. */
  round(shared: Shared, local: Local): Local | undefined;
}

export type Thread = Body | Rounds<unknown>;
export type Threads = Readonly<Record<string, Thread>>;

/** A thread in rounds; numbers, strings, arrays and records of them survive from round to round. */
export function rounds<Local>(start: Local, round: Rounds<Local>['round']): Thread {
  return { start, round };
}

interface Place {
  readonly action: Action;
  readonly notes: ReadonlyMap<string, number>;
  /** Where the round began. */
  readonly local: unknown;
  readonly notesAtStart: ReadonlyMap<string, number>;
  readonly log: readonly number[];
  readonly next: Map<number, number>;
}

const END: Action = { kind: 'end' };
const DEAD: Action = { kind: 'dead' };
const NO_NOTES: ReadonlyMap<string, number> = new Map();

/**
 * A thread as an automaton. A place is a history of results since the round began; what the thread does there is found by
 * running it again, once for each place. Exploring all interleavings then runs no thread any more.
 */
export class ThreadSteps {
  readonly name: string;
  readonly #thread: () => Thread;
  readonly #shared: Shared;
  readonly #alter: (action: Action) => Action;
  readonly #places: Place[] = [];
  /** First places of rounds and last places, by what they depend on. */
  readonly #known = new Map<string, number>();
  readonly start: number;

  /** `thread` is asked before each run, so that it can bring new private objects. `alter` plants mistakes. */
  constructor(name: string, shared: Shared, thread: () => Thread, alter: (action: Action) => Action) {
    this.#alter = alter;
    this.name = name;
    this.#thread = thread;
    this.#shared = shared;
    const first = thread();
    this.start = this.#beginRound(typeof first === 'function' ? null : first.start, NO_NOTES);
  }

  get placeCount(): number {
    return this.#places.length;
  }

  actionAt(place: number): Action {
    return this.#places[place]!.action;
  }

  notesAt(place: number): ReadonlyMap<string, number> {
    return this.#places[place]!.notes;
  }

  isOver(place: number): boolean {
    const { kind } = this.#places[place]!.action;
    return kind === 'end' || kind === 'dead';
  }

  /** Where the thread is when its action at `place` gave `result`. */
  advance(place: number, result: number): number {
    const from = this.#places[place]!;
    const known = from.next.get(result);
    if (known !== undefined) return known;
    const next = this.#run(from.local, from.notesAtStart, [...from.log, result]);
    from.next.set(result, next);
    return next;
  }

  /** Killed at `place`. */
  kill(place: number): number {
    return this.#over(DEAD, this.notesAt(place));
  }

  /** Places and the results that led on from them, for comparisons. */
  following(place: number): ReadonlyMap<number, number> {
    return this.#places[place]!.next;
  }

  #beginRound(local: unknown, notes: ReadonlyMap<string, number>): number {
    const key = `${JSON.stringify(local)} ${JSON.stringify([...notes])}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const place = this.#run(local, notes, []);
    this.#known.set(key, place);
    return place;
  }

  #run(local: unknown, notesAtStart: ReadonlyMap<string, number>, log: readonly number[]): number {
    const thread = this.#thread();
    const run: Run = { log, at: 0, next: undefined, notes: new Map(notesAtStart), settledAs: undefined };
    const { returned } = rerun(run, () => {
      if (typeof thread !== 'function') return thread.round(this.#shared, local);
      thread(this.#shared);
      return undefined;
    });
    const notes = run.notes;
    if (run.next !== undefined) {
      const action = this.#alter(run.next);
      const place: Place = { action, notes, local, notesAtStart, log, next: new Map() };
      return run.settledAs === undefined ? this.#add(place) : this.#settle(run.settledAs, place);
    }
    if (run.at < log.length) throw new TypeError(`Thread ${this.name} does not do the same when run again`);
    if (returned === undefined) return this.#over(END, notes);
    if (log.length === 0) throw new TypeError(`A round of thread ${this.name} has no access`);
    return this.#beginRound(returned, notes);
  }

  #settle(key: string, place: Place): number {
    const whole = `settled ${JSON.stringify(key)} ${JSON.stringify([...place.notes])}`;
    const known = this.#known.get(whole);
    if (known === undefined) {
      const added = this.#add(place);
      this.#known.set(whole, added);
      return added;
    }
    if (JSON.stringify(this.actionAt(known)) === JSON.stringify(place.action)) return known;
    throw new TypeError(`Thread ${this.name} settles as ${key} and then does not always do the same`);
  }

  #over(action: Action, notes: ReadonlyMap<string, number>): number {
    const key = `${action.kind} ${JSON.stringify([...notes])}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const place = this.#add({ action, notes, local: null, notesAtStart: notes, log: [], next: new Map() });
    this.#known.set(key, place);
    return place;
  }

  #add(place: Place): number {
    return this.#places.push(place) - 1;
  }
}
