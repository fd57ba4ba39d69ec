import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readmeExample, runReadmeExample } from '@virtlab/readme-example';
import { expect, it } from 'vitest';

const README = new URL('../README.md', import.meta.url);

it('README: the example runs and does what its comment says', async () => {
  const said = /\/\/ seen: (.*)/.exec(readmeExample(README))![1]!.replaceAll("'", '"');
  const { result } = await runReadmeExample(README, { load: (name) => import(name), result: 'seen' });
  expect(result).toEqual(JSON.parse(said));
});

it('README: the daemon’s example runs, and its log says what the text shows', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'virtlab-xenstored-'));
  const scope = { socketPath: join(directory, 'socket'), accessLog: join(directory, 'log') };
  const { result } = await runReadmeExample(README, {
    load: (name) => import(name),
    scope,
    result: '{ attemptCount, errors, requests }',
    heading: '## Daemon',
  });
  const said = /\/\/ errors: (.*)/.exec(readmeExample(README, '## Daemon'))![1]!;
  expect(result).toMatchObject({ attemptCount: 3, errors: JSON.parse(said), requests: { WRITE: 3 } });
  expect(readFileSync(scope.accessLog, 'utf8')).toMatch(
    /TRANSACTION_END T in 2 out 7 EAGAIN forced by a fault\n/,
  );
  rmSync(directory, { recursive: true });
});
