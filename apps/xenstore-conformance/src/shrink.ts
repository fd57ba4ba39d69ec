import type { Script, Step } from './script.ts';

/**
 * A smaller script of which `fails` still holds, by removing ever smaller pieces (delta debugging) and then making
 * what remains simpler. `attemptCount` bounds how often `fails` is asked.
 */
export async function shrink(
  script: Script,
  fails: (candidate: Script) => Promise<boolean>,
  attemptCount = 400,
): Promise<Script> {
  let left = attemptCount;
  const attempt = (candidate: Script): Promise<boolean> => {
    left -= 1;
    return left < 0 ? Promise.resolve(false) : fails(candidate);
  };
  let best = script;
  for (let size = Math.ceil(best.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    best = await removePieces(best, size, attempt);
  }
  for (let index = 0; index < best.length; index++) {
    for (const simpler of simplerSteps(best[index]!)) {
      const candidate = best.with(index, simpler);
      if (await attempt(candidate)) best = candidate;
    }
  }
  return removePieces(best, 1, attempt);
}

async function removePieces(
  script: Script,
  size: number,
  attempt: (candidate: Script) => Promise<boolean>,
): Promise<Script> {
  let best = script;
  // From the end: what comes later depends on what came before, seldom the other way round.
  for (let start = best.length - size; start > -size; start -= size) {
    const candidate = best.toSpliced(Math.max(start, 0), size + Math.min(start, 0));
    if (candidate.length < best.length && (await attempt(candidate))) best = candidate;
  }
  return best;
}

function simplerSteps(step: Step): Step[] {
  if (step.kind !== 'request') return [];
  const { tx: _tx, ...outside } = step;
  const simpler: Step[] = step.tx === undefined ? [] : [outside];
  if (step.on !== '0' && step.tx === undefined && step.names === undefined)
    simpler.push({ ...step, on: '0' });
  const nul = step.payload.indexOf('\0');
  if (nul >= 0 && step.payload.length > nul + 2) {
    simpler.push({ ...step, payload: step.payload.slice(0, nul + 2) });
  }
  return simpler;
}
