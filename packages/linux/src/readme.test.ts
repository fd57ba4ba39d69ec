import { runReadmeExampleAlone } from '@virtlab/readme-example';
import { expect, it } from 'vitest';
import { describeWithFfi } from './testing/describe-with-ffi.ts';

describeWithFfi('README', () => {
  it('its example runs as it stands', () => {
    const run = runReadmeExampleAlone(new URL('../README.md', import.meta.url));
    expect(run).toEqual({ status: 0, stdout: '', stderr: '' });
  });
});
