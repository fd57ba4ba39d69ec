import { describe, expect, it } from 'vitest';
import { runReadmeExample } from '@virtlab/readme-example';
import { realXenstoredAvailability } from './index.ts';

const availability = realXenstoredAvailability('c');
const isSkipped = availability.status === 'missing' && process.env['VIRTLAB_REQUIRE_PEERS'] !== '1';
if (isSkipped) console.warn(`skipped: ${availability.reason}`);

describe.skipIf(isSkipped)('README.md', () => {
  it('its example runs as it stands', async () => {
    const { printed } = await runReadmeExample(new URL('../README.md', import.meta.url), {
      load: (name) => import(name),
    });
    expect(printed).toEqual([[expect.stringMatching(/socket$/), expect.stringMatching(/ring-5$/), 3]]);
  });
});
