import { readFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { expect, it } from 'vitest';
import * as aio from '@virtlab/aio';
import * as guestMemory from '@virtlab/guest-memory';
import * as virtio from '@virtlab/virtio';
import type { VirtioDevice } from '@virtlab/virtio';
import * as virtioPci from './index.ts';
import { EchoDevice } from './testing/echo-device.ts';

const modules: Readonly<Record<string, object>> = {
  '@virtlab/aio': aio,
  '@virtlab/guest-memory': guestMemory,
  '@virtlab/virtio': virtio,
  '@virtlab/virtio-pci': virtioPci,
};

it('README: the usage works as it stands', async () => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const [, example] = /```ts\n([^]*?)```/.exec(readme)!;
  const body = stripTypeScriptTypes(example!)
    .replaceAll(
      /^import (\{[^}]*\}) from '(.*)';$/gm,
      (_line, names, from) => `const ${names} = modules['${from}'];`,
    )
    .replace('export async function', 'return async function');
  // oxlint-disable-next-line no-implied-eval, typescript/no-implied-eval
  const load = new Function('modules', body) as (from: object) => (device: VirtioDevice) => Promise<string>;
  expect(await load(modules)(new EchoDevice())).toBe('type 3, 2 queues, msix-per-queue');
});
