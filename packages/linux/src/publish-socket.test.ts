import { describe, expect, it } from 'vitest';
import { type PublishSteps, publish } from './publish-socket.ts';

/**
 * Every order in which servers can take their steps at one path, each of which may be killed before any of them. A server lists the
 * answers that it got; it is run again from the beginning with these, up to the step that is next.
 */
type Step = keyof PublishSteps | 'serves' | 'isOurs' | 'unlink' | 'stopListening';
type Answer = boolean | 'nothing' | 'dead' | 'alive' | undefined;

interface Server {
  readonly answers: readonly Answer[];
  readonly isKilled: boolean;
  /** Nobody can connect to a closed or killed one. */
  readonly isListening: boolean;
}

interface World {
  readonly servers: readonly Server[];
  /** Whose socket the path names; -1 is one that was left behind before. */
  readonly path: number | undefined;
  readonly lockedBy: number | undefined;
}

class NextStep extends Error {
  readonly step: Step;

  constructor(step: Step) {
    super(step);
    this.step = step;
  }
}

/** `UnixStreamServer.listen`, and later `close`. */
function life(step: (name: Step) => Answer): void {
  const isPublished = publish({
    link: () => step('link') as boolean,
    lock: () => void step('lock'),
    unlock: () => void step('unlock'),
    probe: () => step('probe') as 'nothing' | 'dead' | 'alive',
    replace: () => void step('replace'),
  });
  if (isPublished) {
    step('serves');
    if (step('isOurs') === true) step('unlink');
  }
  step('stopListening');
}

const known = new Map<string, Step | undefined>();

function nextStep({ answers }: Server): Step | undefined {
  const key = JSON.stringify(answers);
  if (!known.has(key)) known.set(key, findStep(answers));
  return known.get(key);
}

function findStep(answers: Server['answers']): Step | undefined {
  let count = 0;
  let next: NextStep | undefined;
  try {
    life((name) => {
      // What is in a `finally` is not reached yet.
      if (next !== undefined) throw next;
      if (count < answers.length) return answers[count++];
      next = new NextStep(name);
      throw next;
    });
  } catch (error) {
    if (!(error instanceof NextStep)) throw error;
  }
  return next?.step;
}

function isServing(server: Server): boolean {
  const step = nextStep(server);
  return !server.isKilled && (step === 'serves' || step === 'isOurs' || step === 'unlink');
}

interface Rules {
  readonly hasLock: boolean;
}

/** The world after one step of a server; undefined where it has to wait. */
function take(world: World, index: number, step: Step, { hasLock }: Rules): World | undefined {
  const { servers, path, lockedBy } = world;
  const after = (answer: Answer, change: Partial<World> = {}, isListening = true): World => ({
    ...world,
    ...change,
    servers: servers.map((server, at) =>
      at === index ? { ...server, answers: [...server.answers, answer], isListening } : server,
    ),
  });
  switch (step) {
    case 'link':
      return path === undefined ? after(true, { path: index }) : after(false);
    case 'lock':
      if (!hasLock) return after(undefined);
      return lockedBy === undefined ? after(undefined, { lockedBy: index }) : undefined;
    case 'unlock':
      return after(undefined, { lockedBy: undefined });
    case 'probe':
      if (path === undefined) return after('nothing');
      return after(servers[path]?.isListening === true ? 'alive' : 'dead');
    case 'replace':
      return after(undefined, { path: index });
    case 'serves':
      return after(undefined);
    case 'isOurs':
      return after(path === index);
    case 'unlink':
      return after(undefined, { path: undefined });
    case 'stopListening':
      return after(undefined, {}, false);
  }
}

function kill(world: World, index: number): World {
  const servers = world.servers.map((server, at) =>
    at === index ? { ...server, isKilled: true, isListening: false } : server,
  );
  return { ...world, servers, lockedBy: world.lockedBy === index ? undefined : world.lockedBy };
}

interface Findings {
  readonly worlds: number;
  /** A server serves, and the path is not its own. */
  lost: number;
  /** Some wait for the lock, and nobody else goes on. */
  stuck: number;
}

function explore(serverCount: number, path: World['path'], rules: Rules): Findings {
  const server: Server = { answers: [], isKilled: false, isListening: true };
  const first: World = {
    servers: Array.from({ length: serverCount }, () => server),
    path,
    lockedBy: undefined,
  };
  const seen = new Set<string>();
  const open = [first];
  const found = { lost: 0, stuck: 0 };
  for (let world = open.pop(); world !== undefined; world = open.pop()) {
    const key = JSON.stringify(world);
    if (seen.has(key)) continue;
    seen.add(key);
    const { servers } = world;
    if (servers.some((each, index) => isServing(each) && world.path !== index)) found.lost += 1;
    let isWaiting = false;
    let isMoving = false;
    for (const [index, each] of servers.entries()) {
      const step = each.isKilled ? undefined : nextStep(each);
      if (step === undefined) continue;
      const next = take(world, index, step, rules);
      if (next === undefined) isWaiting = true;
      else {
        isMoving = true;
        open.push(next);
      }
      open.push(kill(world, index));
    }
    if (isWaiting && !isMoving) found.stuck += 1;
  }
  return { worlds: seen.size, ...found };
}

describe('publish, in every order of the steps of three servers that start, end and are killed', () => {
  it.each([
    ['a dead socket', -1],
    ['nothing', undefined],
  ])('no server that listens loses its name, and none waits for ever, over %s', (_, path) => {
    const { worlds, lost, stuck } = explore(3, path, { hasLock: true });
    expect({ lost, stuck }).toEqual({ lost: 0, stuck: 0 });
    expect(worlds).toBeGreaterThan(1000);
  });

  it('without the lock one would', () => {
    expect(explore(2, -1, { hasLock: false }).lost).toBeGreaterThan(0);
  });
});
