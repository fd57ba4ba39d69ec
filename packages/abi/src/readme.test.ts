import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import * as brands from './brands.ts';
import * as grantTable from './grant-table.ts';
import * as virtioRing from './virtio-ring.ts';
import * as virtio from './virtio.ts';

const modules: Readonly<Record<string, object>> = {
  '@virtlab/abi/brands': brands,
  '@virtlab/abi/grant-table': grantTable,
  '@virtlab/abi/virtio': virtio,
  '@virtlab/abi/virtio-ring': virtioRing,
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
  const run = new Function('modules', `${body}\nreturn { modern, max_nr_frames, flags };`) as (
    from: object,
  ) => object;
  expect(run(modules)).toEqual({ modern: true, max_nr_frames: 64, flags: virtioRing.VRING_DESC_F_WRITE });
});
