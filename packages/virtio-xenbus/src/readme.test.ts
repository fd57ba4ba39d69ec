import { readFileSync } from 'node:fs';
import { domId } from '@virtlab/abi/brands';
import * as virtio from '@virtlab/virtio';
import * as xenbus from '@virtlab/xenbus';
import { expect, it } from 'vitest';
import * as virtioXenbus from './index.ts';
import { TinyDevice } from './testing/tiny-device.ts';
import { XenRig } from './testing/xen-rig.ts';

it('the snippet of the README runs', async () => {
  const rig = new XenRig();
  const [dom0, domU] = [await rig.addDomain(0), await rig.addDomain(1)];
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const snippet = /```ts\n([^]*?)```/.exec(readme)?.[1] ?? '';
  const scope = {
    ...xenbus,
    ...virtio,
    ...virtioXenbus,
    domId,
    TinyDevice,
    toolstack: rig.toolstack,
    dom0,
    domU,
  };
  // oxlint-disable-next-line typescript/no-implied-eval -- the point of this test
  const run = new Function(...Object.keys(scope), `return (async () => { ${snippet}; return capacity; })()`);
  const capacity = (await rig.run(run(...Object.values(scope)) as Promise<Uint8Array>)) satisfies Uint8Array;
  expect([...capacity]).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  expect(rig.leaks()).toEqual([]);
});
