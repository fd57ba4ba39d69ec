import { describe, expect, it } from 'vitest';
import { generateScript } from './generate.ts';
import { knownDifferencesOf } from './known-differences.ts';
import { mustSkip, requiredPeer } from './peer-gate.ts';
import { runCampaign } from './random-campaign.ts';
import { RANDOM_STEP_COUNT, RANDOM_THEMES, randomSeeds } from './random-defaults.ts';
import { virtlabSubject } from './subjects/virtlab-daemon.ts';
import { virtlabSocketSubject } from './subjects/virtlab-socket.ts';

const seeds = randomSeeds(process.env['VIRTLAB_SEED']);
const factor = Number(process.env['VIRTLAB_CAMPAIGN'] ?? 1);

it('the same seed makes the same script, another seed another', () => {
  const options = { seed: 7, stepCount: 300 };
  expect(generateScript(options)).toEqual(generateScript(options));
  expect(generateScript(options)).not.toEqual(generateScript({ ...options, seed: 8 }));
});

for (const name of ['c', 'oxenstored'] as const) {
  describe.skipIf(mustSkip(name))(name, () => {
    it.each(seeds)(
      'answers random scripts from seed %i as our profile does',
      async (seed) => {
        const peer = requiredPeer(name);
        const result = await runCampaign({
          ours: virtlabSubject(peer.profile),
          oursToo: virtlabSocketSubject(peer.profile),
          theirs: peer.subject,
          known: knownDifferencesOf(peer.profile.name),
          themes: RANDOM_THEMES[name],
          seed,
          stepCount: RANDOM_STEP_COUNT * factor,
        });
        const { failure } = result;
        const repeat = `npm run xenstore-conformance -- --daemon ${name} --seed ${failure?.seed} --steps 250`;
        expect.soft(result.stepCount).toBeGreaterThan((RANDOM_STEP_COUNT * factor) / 2);
        expect(failure === undefined ? '' : `${repeat}\n${failure.report}`).toBe('');
      },
      60_000 * factor,
    );
  });
}
