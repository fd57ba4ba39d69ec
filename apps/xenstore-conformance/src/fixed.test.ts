import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { CaseResult } from './differential.ts';
import { FIXED_GROUPS } from './fixed/fixed-groups.ts';
import { knownDifferencesOf } from './known-differences.ts';
import { type ComparedProfile, PAGE, PAGE_PEERS, compareWithPeer, pageText } from './page.ts';
import { mustSkip } from './peer-gate.ts';
import { type PeerName, findPeer } from './peers.ts';

const LIMIT_MS = 60_000;
const played = new Map<PeerName, Promise<ComparedProfile>>();

/** Each daemon is played to once. */
function compared(name: PeerName): Promise<ComparedProfile> {
  const known = played.get(name);
  if (known !== undefined) return known;
  const running = compareWithPeer(name);
  played.set(name, running);
  return running;
}

function failuresOf(results: readonly CaseResult[]): string[] {
  return results
    .filter(({ unknown, unexpected }) => unknown.length > 0 || unexpected !== undefined)
    .map(({ group, name, unexpected, report }) => `${group}: ${name}\n${unexpected ?? ''}\n${report}`);
}

/** A security update of Debian's package changes nothing that the page says. */
const withoutVersions = (text: string): string => text.replaceAll(/\(Debian [^)]*\)/g, '(Debian)');

it('names of cases are unique', () => {
  const names = FIXED_GROUPS.flatMap((group) => group.cases.map(({ name }) => `${group.name}: ${name}`));
  expect(new Set(names).size).toBe(names.length);
});

for (const name of PAGE_PEERS) {
  describe.skipIf(name !== 'c-head' && mustSkip(name))(`fixed scripts, ${name}`, () => {
    it(
      'the daemon answers as our profile does, but for the known differences',
      async () => {
        expect(failuresOf((await compared(name)).results).join('\n')).toBe('');
      },
      LIMIT_MS,
    );

    it(
      'every known difference is met',
      async () => {
        const { profile, results } = await compared(name);
        const met = new Set(results.flatMap(({ known }) => known));
        const listed = knownDifferencesOf(profile).map((entry) => entry.name);
        expect([...met].toSorted()).toEqual(listed.toSorted());
      },
      LIMIT_MS,
    );
  });
}

describe.skipIf(mustSkip('c') || mustSkip('oxenstored'))('docs/xenstore-conformance.md', () => {
  it(
    'says what a run of the fixed scripts says (npm run xenstore-conformance -- --write)',
    async () => {
      const profiles: ComparedProfile[] = [];
      for (const name of PAGE_PEERS) profiles.push(await compared(name));
      expect(withoutVersions(pageText(profiles))).toBe(withoutVersions(readFileSync(PAGE, 'utf8')));
    },
    LIMIT_MS,
  );
});

it('the C daemon of the master branch cannot be compared live without its program', () => {
  expect(findPeer('c-head')).toContain('--program');
});
