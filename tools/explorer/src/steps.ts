import { type Access, type Action, extract, insert, isAccess, isWrite, modify } from './action.ts';
import type { World } from './world.ts';

/** One state: places of the threads, words that differ from the first ones by cell, and store buffers, oldest first. */
export interface State {
  readonly places: readonly number[];
  readonly cells: readonly number[];
  /** `offset, width, value` for each store that is under way. */
  readonly buffers: readonly (readonly number[])[];
}

/** What one thread does in one transition. */
export interface Step {
  readonly thread: number;
  readonly kind: 'act' | 'flush' | 'kill';
  /** Which way `choose` goes. */
  readonly choice: number;
}

const ENTRY = 3;

export function firstState(world: World): State {
  return {
    places: world.threads.map(({ start }) => start),
    cells: [],
    buffers: world.threads.map(() => []),
  };
}

export function cellValue(world: World, state: State, cell: number): number {
  return state.cells[cell] ?? world.firstOf(cell);
}

function wordOf(world: World, state: State, offset: number): number {
  return cellValue(world, state, world.cellOf(offset));
}

function withWord(world: World, state: State, offset: number, value: number): readonly number[] {
  const cell = world.cellOf(offset);
  const cells = [...state.cells];
  for (let each = cells.length; each < cell; each++) cells.push(world.firstOf(each));
  cells[cell] = value;
  return cells;
}

export function actionOf(world: World, state: State, thread: number): Action {
  return world.threads[thread]!.actionAt(state.places[thread]!);
}

/** Whether the thread can do what it does next. */
export function isEnabled(world: World, state: State, thread: number): boolean {
  const action = actionOf(world, state, thread);
  const isDrained = state.buffers[thread]!.length === 0;
  switch (action.kind) {
    case 'end':
    case 'dead':
    case 'fail':
      return false;
    case 'load':
    case 'atomicLoad':
    case 'choose':
      return true;
    case 'store':
      return world.memoryModel === 'tso' || isDrained;
    case 'sleep':
      return isDrained && wordOf(world, state, action.offset) !== 0;
    case 'awaitEnd': {
      const other = world.threadIndex(action.thread);
      return world.threads[other]!.isOver(state.places[other]!) && state.buffers[other]!.length === 0;
    }
    default:
      return isDrained;
  }
}

/** What a thread reads: its own newest stores before memory. */
function seenBy(world: World, state: State, thread: number, access: Access): number {
  let word = wordOf(world, state, access.offset);
  const buffer = state.buffers[thread]!;
  for (let at = 0; at < buffer.length; at += ENTRY) {
    const offset = buffer[at]!;
    if (offset >>> 2 !== access.offset >>> 2) continue;
    word = insert(word, offset, buffer[at + 1]! as 1 | 2 | 4, buffer[at + 2]!);
  }
  return extract(word, access.offset, access.width, access.isSigned);
}

export function follow(world: World, state: State, step: Step): State {
  if (step.kind === 'flush') return flush(world, state, step.thread);
  const { thread } = step;
  const steps = world.threads[thread]!;
  const place = state.places[thread]!;
  if (step.kind === 'kill') return { ...state, places: state.places.with(thread, steps.kill(place)) };
  const [result, changed] = act(world, state, thread, step.choice);
  return { ...changed, places: changed.places.with(thread, steps.advance(place, result)) };
}

function act(world: World, state: State, thread: number, choice: number): [result: number, state: State] {
  const action = actionOf(world, state, thread);
  switch (action.kind) {
    case 'choose':
      return [choice, state];
    case 'sleep':
      return [0, action.takes ? { ...state, cells: withWord(world, state, action.offset, 0) } : state];
    case 'awaitEnd': {
      const other = world.threadIndex(action.thread);
      return [actionOf(world, state, other).kind === 'dead' ? 1 : 0, state];
    }
    default:
      return isAccess(action) ? touch(world, state, thread, action) : [0, state];
  }
}

function touch(world: World, state: State, thread: number, access: Access): [number, State] {
  const { offset, width, value } = access;
  if (access.kind === 'store' && world.memoryModel === 'tso') {
    const buffer = [...state.buffers[thread]!, offset, width, value];
    return [0, { ...state, buffers: state.buffers.with(thread, buffer) }];
  }
  const found = seenBy(world, state, thread, access);
  if (!isWrite(access)) return [found, state];
  const word = insert(wordOf(world, state, offset), offset, width, modify(access, found));
  const isBlind = access.kind === 'store' || access.kind === 'atomicStore';
  return [isBlind ? 0 : found, { ...state, cells: withWord(world, state, offset, word) }];
}

function flush(world: World, state: State, thread: number): State {
  const [offset, width, value, ...rest] = state.buffers[thread]! as [number, 1 | 2 | 4, number, ...number[]];
  const word = insert(wordOf(world, state, offset), offset, width, value);
  return {
    places: state.places,
    cells: withWord(world, state, offset, word),
    buffers: state.buffers.with(thread, rest),
  };
}

/** The same for equal states; words that nobody has changed do not count. */
export function keyOf(world: World, { places, cells, buffers }: State): string {
  let key = '';
  for (const place of places) key += `${place},`;
  for (let cell = 0; cell < cells.length; cell++) {
    const value = cells[cell]!;
    if (value !== world.firstOf(cell)) key += `${cell}:${value} `;
  }
  for (let thread = 0; thread < buffers.length; thread++) {
    const buffer = buffers[thread]!;
    if (buffer.length > 0) key += `/${thread}:${buffer.join()}`;
  }
  return key;
}

/** A step in words, given the state in which it is taken. */
export function textOf(world: World, state: State, step: Step): string {
  const { thread } = step;
  if (step.kind === 'kill') return 'is killed';
  if (step.kind === 'flush') {
    const [offset, , value] = state.buffers[thread]! as [number, number, number];
    return `(buffer) ${world.nameOf(offset)} = ${value}`;
  }
  const action = actionOf(world, state, thread);
  if (isAccess(action)) return accessText(world, state, thread, action);
  switch (action.kind) {
    case 'choose':
      return `chooses ${step.choice} of ${action.count}`;
    case 'sleep':
      return `wakes by ${world.nameOf(action.offset)}`;
    case 'awaitEnd':
      return `sees the end of ${action.thread}`;
    default:
      return action.kind;
  }
}

function accessText(world: World, state: State, thread: number, action: Access): string {
  const name = world.nameOf(action.offset);
  const { kind, value, replacement } = action;
  if (kind === 'store') return `${world.memoryModel === 'tso' ? 'buffers ' : ''}${name} = ${value}`;
  if (kind === 'atomicStore') return `${name} = ${value} (atomic)`;
  const found = seenBy(world, state, thread, action);
  if (!isWrite(action)) return `${name} is ${found}`;
  const operand = kind === 'compareExchange' ? `${value}, ${replacement}` : `${value}`;
  return `${name}.${kind}(${operand}) was ${found}`;
}
