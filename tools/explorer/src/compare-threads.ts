import { type Action, isAccess } from './action.ts';
import type { Exploration } from './exploration.ts';
import { exploreWorld } from './explore.ts';
import { watchAtomics } from './shared-memory.ts';
import type { ThreadSteps } from './thread.ts';
import { World } from './world.ts';

export interface Difference {
  /** Histories of the code that were compared. */
  readonly placeCount: number;
  /** Where the two first part: what both did before, and what each does then. */
  readonly difference: string | undefined;
}

/**
 * Holds a model to the code. Explores the code; in every history that a thread of it can have there, the thread of the model
 * must do the same next when it was given the same results: the same operation on the word of the same name with the same
 * operands. Accesses of the code to words without a name in the model are left out. Both thus are the same program as far as
 * they share words, and what is proven of the model holds for the code.
 */
export function compareThreads(
  code: Exploration,
  codeThread: string,
  model: Exploration,
  modelThread: string,
): Difference {
  const { world } = exploreWorld(code, 'sc');
  const restore = watchAtomics();
  try {
    const modelWorld = new World(model, 'sc');
    return new Comparison(
      world,
      world.threads[world.threadIndex(codeThread)]!,
      modelWorld,
      modelWorld.threads[modelWorld.threadIndex(modelThread)]!,
    ).run();
  } finally {
    restore();
  }
}

class Comparison {
  readonly #codeWorld: World;
  readonly #code: ThreadSteps;
  readonly #modelWorld: World;
  readonly #model: ThreadSteps;
  readonly #seen = new Set<string>();

  constructor(codeWorld: World, code: ThreadSteps, modelWorld: World, model: ThreadSteps) {
    this.#codeWorld = codeWorld;
    this.#code = code;
    this.#modelWorld = modelWorld;
    this.#model = model;
  }

  run(): Difference {
    const difference = this.#compare(this.#code.start, this.#model.start, []);
    return { placeCount: this.#seen.size, difference };
  }

  #compare(place: number, modelPlace: number, before: readonly string[]): string | undefined {
    const key = `${place} ${modelPlace}`;
    if (this.#seen.has(key)) return undefined;
    this.#seen.add(key);
    const action = this.#code.actionAt(place);
    if (!this.#isOfModel(action)) {
      for (const next of this.#code.following(place).values()) {
        const difference = this.#compare(next, modelPlace, before);
        if (difference !== undefined) return difference;
      }
      return undefined;
    }
    const did = describe(this.#codeWorld, action);
    const modelled = describe(this.#modelWorld, this.#model.actionAt(modelPlace));
    if (did !== modelled) return [...before, `code:  ${did}`, `model: ${modelled}`].join('\n');
    for (const [result, next] of this.#code.following(place)) {
      const text = action.kind === 'end' ? did : `${did} → ${result}`;
      const difference = this.#compare(next, this.#model.advance(modelPlace, result), [...before, text]);
      if (difference !== undefined) return difference;
    }
    return undefined;
  }

  #isOfModel(action: Action): boolean {
    if (!isAccess(action) && action.kind !== 'sleep') return true;
    const name = this.#codeWorld.memory.nameOf(action.offset);
    return name !== undefined && this.#modelWorld.memory.offsetOf(name) !== undefined;
  }
}

function describe(world: World, action: Action): string {
  if (action.kind === 'sleep') return `${action.takes ? 'sleep' : 'wait for'} ${world.nameOf(action.offset)}`;
  if (!isAccess(action)) return action.kind;
  const { kind, offset, value, replacement } = action;
  const name = world.nameOf(offset);
  if (kind === 'load' || kind === 'atomicLoad') return `${kind} ${name}`;
  return kind === 'compareExchange' ? `${kind} ${name} ${value} ${replacement}` : `${kind} ${name} ${value}`;
}
