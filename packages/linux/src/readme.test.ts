import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { describeWithFfi } from './testing/describe-with-ffi.ts';

const ROOT = new URL('..', import.meta.url);

describeWithFfi('README', () => {
  it('its example runs as it stands', () => {
    const [, code] = /```ts\n([^]*?)```/.exec(readFileSync(new URL('README.md', ROOT), 'utf8'))!;
    const flags = ['--conditions=@virtlab/source', '--input-type=module-typescript', '--eval', code!];
    const { status, stderr } = spawnSync(process.execPath, flags, { cwd: ROOT, encoding: 'utf8' });
    expect(stderr).toBe('');
    expect(status).toBe(0);
  });
});
