import { expect, it } from 'vitest';
import { runReadmeExample } from '@virtlab/readme-example';
import { describeGuests } from './testing/describe-guests.ts';

describeGuests('README.md', () => {
  it('its example runs as it stands', async () => {
    const { printed } = await runReadmeExample(new URL('../README.md', import.meta.url), {
      load: (name) => import(name),
    });
    expect(printed).toEqual([['128'], [1, expect.stringContaining('nowhere: No such file')]]);
  });
});
