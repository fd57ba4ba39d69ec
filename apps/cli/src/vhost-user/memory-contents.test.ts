import { appendFileSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeWithFfi } from '@virtlab/linux/testing';
import { afterAll, expect, it } from 'vitest';
import { memoryContents } from './memory-contents.ts';

const folder = mkdtempSync(join(tmpdir(), 'virtlab-'));
const file = join(folder, 'disk');
afterAll(() => rmSync(folder, { recursive: true }));

describeWithFfi('what a disk in memory begins with', () => {
  it.each([false, true])(
    'an image of several reads, from its first byte to its last, shared: %s',
    async (shared) => {
      const size = (65 << 20) + 512;
      writeFileSync(file, 'first');
      truncateSync(file, size - 4);
      appendFileSync(file, 'last');
      const contents = await memoryContents({ file, size: undefined }, { shared });
      expect(contents).toHaveLength(size);
      expect(contents.buffer instanceof SharedArrayBuffer).toBe(shared);
      const text = (from: number, to: number): string => Buffer.from(contents.slice(from, to)).toString();
      expect([text(0, 5), text(size - 4, size)]).toEqual(['first', 'last']);
    },
  );

  it('more than the machine has is told by the option that asked for it', async () => {
    await expect(memoryContents({ file: undefined, size: 2 ** 50 })).rejects.toMatchObject({
      name: 'StartError',
      kind: 'environment',
      message: expect.stringMatching(/^--size: there are no 1125899906842624 bytes of memory/),
    });
  });
});
