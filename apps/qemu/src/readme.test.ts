import { runReadmeExample } from '@virtlab/readme-example';
import { expect, it } from 'vitest';
import { describeWithQemu } from './qtest/testing/describe-with-qemu.ts';

describeWithQemu('README', () => {
  it('the usage works as it stands', async () => {
    const { result } = await runReadmeExample(new URL('../README.md', import.meta.url), {
      load: (name) => (name === '@virtlab/qemu' ? import('./index.ts') : import(name)),
      result: 'entropyOfQemu',
    });
    const bytes = await (result as () => Promise<Uint8Array>)();
    expect(bytes.some((byte) => byte !== 0)).toBe(true);
  });
});
