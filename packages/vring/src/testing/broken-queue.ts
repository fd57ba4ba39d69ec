import type { DeviceRig } from './device-rig.ts';

/**
 * What is missing of a queue that broke as it should: with this section and these words, popping and writing nothing
 * more, holding nothing but its areas. Releases it.
 */
export function missingOfBroken(rig: DeviceRig, section: string, ...words: readonly string[]): string[] {
  const { queue, memory } = rig;
  const before = rig.driver.ring.usedIdx;
  const missed: string[] = [];
  const want = (what: string, held: boolean): void => {
    if (!held) missed.push(what);
  };
  want('pop gives nothing', queue.pop() === undefined);
  const { violation } = queue;
  want(`section ${section}, not ${violation?.section}`, violation?.section === section);
  for (const word of words)
    want(`"${word}" in "${violation?.message}"`, violation?.message.includes(word) === true);
  want('pop stays empty', queue.pop() === undefined && !queue.hasAvailable() && !queue.enableKicks());
  want('no call', !queue.needsCall());
  want('no used entry', rig.driver.ring.usedIdx === before);
  want('the snapshot says it', queue.snapshot().violation === violation);
  want(`three areas mapped, not ${memory.leaks().join(', ')}`, memory.leaks().length === 3);
  queue.release();
  want('nothing mapped', memory.leaks().length === 0);
  return missed;
}
