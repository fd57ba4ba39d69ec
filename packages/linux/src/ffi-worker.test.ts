import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { describeWithFfi } from './testing/describe-with-ffi.ts';
import { ENDED, type EndOfWorker } from './testing/ending-worker.ts';

const PROGRAM = fileURLToPath(new URL('./testing/ending-worker.ts', import.meta.url));

describeWithFfi('a worker thread that alone has loaded the FFI', () => {
  it.each<EndOfWorker>(['exit', 'terminate', 'throw', 'exitNow'])('may end with watches open: %s', (end) => {
    const { status, signal, stderr } = spawnSync(
      process.execPath,
      ['--conditions=@virtlab/source', PROGRAM, end],
      { encoding: 'utf8' },
    );
    expect({ status, signal, stderr }).toEqual({ status: ENDED, signal: null, stderr: '' });
  });
});
