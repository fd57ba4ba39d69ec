import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeWithFfi } from '@virtlab/linux/testing';
import { runReadmeExample } from '@virtlab/readme-example';
import { expect, it } from 'vitest';
import { HeldDevice } from './testing/held-device.ts';

describeWithFfi('README', () => {
  it('the usage works as it stands', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'virtlab-readme-'));
    const device = new HeldDevice(1, 64); // as the root README's; the default would be refused
    const { printed } = await runReadmeExample(new URL('../README.md', import.meta.url), {
      load: (name) => import(name),
      scope: { device, path: join(directory, 'device.sock') },
      result: 'aio[Symbol.dispose]()',
    });
    expect(printed).toEqual([['ACKNOWLEDGE|DRIVER|FEATURES_OK|DRIVER_OK']]);
    rmSync(directory, { recursive: true });
  });
});
