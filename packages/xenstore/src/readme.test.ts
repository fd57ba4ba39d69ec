import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';

it('README: the example runs and does what its comment says', async () => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const example = /```ts\n([\s\S]*?)```/.exec(readme)![1]!;
  const expected = /\/\/ seen: (.*)/.exec(example)![1]!.replaceAll("'", '"');
  const cache = join(import.meta.dirname, '../.cache');
  mkdirSync(cache, { recursive: true });
  const directory = mkdtempSync(join(cache, 'readme-'));
  try {
    const file = join(directory, 'example.ts');
    writeFileSync(file, `${example}\nexport { seen };\n`);
    const { seen } = (await import(file)) as { seen: string[] };
    expect(seen).toEqual(JSON.parse(expected));
  } finally {
    rmSync(directory, { recursive: true });
  }
});
