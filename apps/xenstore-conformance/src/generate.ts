import { type Theme, generateRequest } from './generate-request.ts';
import { type GeneratorState, newState } from './generator-state.ts';
import { OPERATIONS } from './operations.ts';
import { Random } from './random.ts';
import type { Script, Step } from './script.ts';

export interface GenerateOptions {
  readonly seed: number;
  readonly stepCount: number;
  readonly theme?: Theme;
}

const SOCKETS = ['0', '0', '0b', '0c'] as const;
const GUESTS = [5, 6, 7] as const;
/** Lives as long as the script, so that others can be given its rights. */
const TARGET = 8;

/**
 * A random script that makes sense most of the time: it remembers what it did and goes back to the same few paths,
 * transactions and watches, since conflicts and events come from what meets. The same options, the same script.
 */
export function generateScript({ seed, stepCount, theme = 'usual' }: GenerateOptions): Script {
  const random = new Random(seed);
  const state = newState();
  const steps: Step[] = [];
  for (const domid of [TARGET, 5, 6]) steps.push(...bringUp(state, domid));
  for (const [path, permissions] of PLACES) {
    steps.push({ kind: 'request', on: '0', op: OPERATIONS.MKDIR, payload: `${path}\0` });
    steps.push({ kind: 'request', on: '0', op: OPERATIONS.SET_PERMS, payload: `${path}\0${permissions}` });
  }
  while (steps.length < stepCount) {
    if (random.chance(theme === 'usual' ? 0.025 : 0.07)) steps.push(...domainSteps(random, state, theme));
    else if (random.chance(0.006)) steps.push(closeSocket(random, state));
    else steps.push(generateRequest(random, state, pickConnection(random, state), theme));
  }
  return steps.slice(0, stepCount);
}

/** Where guests may do something at the start. */
const PLACES = [
  ['/local/domain/5', 'n5\0'],
  ['/local/domain/6', 'n6\0r5\0'],
  ['/shared', 'b0\0'],
] as const;

function pickConnection(random: Random, state: GeneratorState): string {
  const guests = [...state.introduced].map(String);
  return guests.length === 0 || random.chance(0.55) ? random.pick(SOCKETS) : random.pick(guests);
}

function bringUp(state: GeneratorState, domid: number): Step[] {
  state.introduced.add(domid);
  return [
    { kind: 'create', domid },
    { kind: 'introduce', on: '0', domid },
  ];
}

function domainSteps(random: Random, state: GeneratorState, theme: Theme): Step[] {
  const domid = random.pick(GUESTS);
  if (theme !== 'usual' && !state.introduced.has(domid) && random.chance(0.3)) {
    return [{ kind: random.pick(['create', 'destroy']), domid }];
  }
  if (!state.introduced.has(domid)) return bringUp(state, domid);
  const what = random.weighted([
    [3, 'shutdown'],
    [2, 'destroy'],
    [2, 'release'],
    [2, 'introduce'],
    [2, 'resume'],
  ] as const);
  if (what === 'shutdown') return [{ kind: 'shutdown', domid }];
  if (what === 'introduce') {
    state.forget(String(domid));
    return [{ kind: 'introduce', on: '0', domid }];
  }
  if (what === 'destroy') {
    state.introduced.delete(domid);
    state.forget(String(domid));
    return [{ kind: 'destroy', domid }];
  }
  return [state.administer(what, domid)];
}

function closeSocket(random: Random, state: GeneratorState): Step {
  const on = random.pick(SOCKETS);
  state.forget(on);
  return { kind: 'close', on };
}
