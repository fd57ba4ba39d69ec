import type { DeviceRig, PackedDeviceRig } from './device-rig.ts';

/**
 * What is missing of a queue that broke as it should: with this section and these words, popping and writing nothing
 * more, holding nothing but its areas and what was in flight before. Releases it.
 */
export function missingOfBroken(
  rig: DeviceRig | PackedDeviceRig,
  section: string,
  ...words: readonly string[]
): string[] {
  const { queue, memory } = rig;
  const before = rig.driver.ring.written();
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
  want('no used entry', rig.driver.ring.written() === before);
  want('the snapshot says it', queue.snapshot().violation === violation);
  const leaks = memory.leaks();
  const held = leaks.filter((leak) => !leak.startsWith('area'));
  const isAreasOnly = leaks.length - held.length === 3 && held.length > 0 === queue.inFlightCount > 0;
  want(`three areas mapped and what is in flight, not ${leaks.join(', ')}`, isAreasOnly);
  queue.release();
  want('nothing mapped', memory.leaks().length === 0);
  return missed;
}
