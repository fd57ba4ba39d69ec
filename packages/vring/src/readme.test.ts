import { readFileSync } from 'node:fs';
import * as guestMemory from '@virtlab/guest-memory';
import { expect, it } from 'vitest';
import * as vring from './index.ts';

const modules: Readonly<Record<string, object>> = {
  '@virtlab/guest-memory': guestMemory,
  '@virtlab/vring': vring,
};

it('README: the usage example runs and gives what it says', () => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const [, example] = /```ts\n([^]*?)```/.exec(readme)!;
  const body = example!.replace(
    /^import (\{.*\}) from '(.*)';$/gm,
    (_line, names, from) => `const ${names} = modules['${from}'];`,
  );
  // The example has no type annotations, so that it is JavaScript once its imports are.
  // oxlint-disable-next-line no-implied-eval, typescript/no-implied-eval
  const run = new Function('modules', `${body}\nreturn { kick, call, token, answer };`) as (
    from: object,
  ) => object;
  expect(run(modules)).toEqual({ kick: true, call: true, token: 42, answer: [0xfe, 0xfd, 0xfc, 0xfb] });
});
