import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { readmeExample, readmeExampleAndTest, runReadmeExample, runReadmeExampleAlone } from './index.ts';

const folder = mkdtempSync(join(tmpdir(), 'readme-example-'));
afterAll(() => rmSync(folder, { recursive: true }));
let files = 0;

function fileWith(...lines: readonly string[]): URL {
  files += 1;
  const path = join(folder, `${files}.md`);
  writeFileSync(path, lines.map((line) => `${line}\n`).join(''));
  return pathToFileURL(path);
}

function readmeWith(...code: readonly string[]): URL {
  return fileWith('# A package', '', '## Usage', '', '```ts', ...code, '```', '', '## Limits');
}

const load = (name: string): Promise<object> => import(name);

describe('the example', () => {
  it('is the first block of TypeScript below the heading, as it stands', () => {
    const readme = fileWith(
      '```ts',
      'above();',
      '```',
      '## Usage',
      '```sh',
      '# shell',
      '```',
      '```ts',
      '## code',
      '',
      '```',
      '```ts',
      'second();',
      '```',
      '## Limits',
      '```ts',
      'third();',
      '```',
    );
    expect(readmeExample(readme)).toBe('## code\n\n');
    expect(readmeExample(readme, '## Limits')).toBe('third();\n');
  });

  it.each([
    ['no heading', ['# A package', '```ts', 'code();', '```'], 'has no line "## Usage"'],
    ['no block', ['## Usage', '', 'Nothing.'], 'no block'],
    ['a block of the next section', ['## Usage', '## Design', '```ts', 'code();', '```'], 'no block'],
    ['a block that does not end', ['## Usage', '```ts', 'code();'], 'no block'],
  ])('is missed: %s', (_what, lines, message) => {
    expect(() => readmeExample(fileWith(...lines))).toThrow(message);
  });
});

describe('an example within the test', () => {
  it('imports, uses the scope, prints, and comes to a result', async () => {
    const readme = readmeWith(
      "import assert from 'node:assert/strict';",
      "import * as path from 'node:path';",
      "import type { Nothing } from 'nowhere';",
      "import {\n  type URL,\n  format as toText,\n} from 'node:util';",
      'export const sum: number = await Promise.resolve(given + 1);',
      "console.log(toText('%i', sum), path.posix.join('a', 'b'));",
      'console.log();',
      'assert.equal(sum, 42);',
    );
    expect(await runReadmeExample(readme, { load, scope: { given: 41 }, result: '{ sum }' })).toEqual({
      result: { sum: 42 },
      printed: [['42', 'a/b'], []],
    });
  });

  it('gives what it declares and exports to the result', async () => {
    const { result } = await runReadmeExample(
      readmeWith('export async function twice(x: number) {', '  return 2 * x;', '}'),
      {
        result: 'twice',
      },
    );
    expect(await (result as (x: number) => Promise<number>)(4)).toBe(8);
  });

  it.each([
    ['it throws', ["throw new RangeError('wrong');"], 'wrong'],
    ['it rejects', ["await Promise.reject(new Error('late'));"], 'late'],
    ['it does not parse', ['const = 1;'], ''],
    ['it writes to what it did not declare', ['undeclared = 1;'], 'undeclared is not defined'],
    ['a name is unknown', ['unknownName();'], 'unknownName is not defined'],
    ['it declares a name of the scope again', ['const given = 1;'], 'given'],
    ['an import has no such module', ["import { a } from '@virtlab/nowhere';"], 'nowhere'],
  ])('fails when %s', async (_what, code, message) => {
    await expect(runReadmeExample(readmeWith(...code), { load, scope: { given: 1 } })).rejects.toThrow(
      message,
    );
  });

  it('fails when it imports and nothing loads', async () => {
    await expect(runReadmeExample(readmeWith("import { a } from 'x';"))).rejects.toThrow('imports x');
  });
});

describe('an example alone', () => {
  it('runs as it stands until its process ends', () => {
    const readme = readmeWith(
      "import { setTimeout } from 'node:timers/promises';",
      'const text: string = "later";',
      'setTimeout(1).then(() => console.log(text));',
    );
    expect(runReadmeExampleAlone(readme)).toEqual({ status: 0, stdout: 'later\n', stderr: '' });
  });

  it('says how it failed, also after its last line', () => {
    const readme = readmeWith("setImmediate(() => { throw new Error('wrong'); });");
    expect(runReadmeExampleAlone(readme)).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('wrong'),
    });
  });
});

describe('an example that is the code of a test', () => {
  const test = (code: string): URL => fileWith('before();', '// usage', code, '// end of usage', 'after();');

  it('equals it whatever the formatting and the imports', () => {
    const readme = readmeWith("import { f } from 'f';", '', 'f({', '  a: 1,', '});');
    const { readme: one, test: other } = readmeExampleAndTest(readme, test('    f({ a: 1 });'));
    expect([one, other]).toEqual(['f({a:1});', 'f({a:1});']);
  });

  it('differs from any other', () => {
    const same = readmeExampleAndTest(readmeWith('f(1);'), test('f(2);'));
    expect(same.readme).not.toBe(same.test);
  });

  it('is missed without the marks', () => {
    expect(() => readmeExampleAndTest(readmeWith('f(1);'), fileWith('f(1);'))).toThrow('between the marks');
  });
});

it('README: the usage works as it stands', async () => {
  const { result } = await runReadmeExample(new URL('../README.md', import.meta.url), {
    load,
    scope: { readme: readmeWith('const answer = [greeting, 42];', 'console.log(...answer);') },
    result: '{ result, printed }',
  });
  expect(result).toEqual({ result: { answer: ['hello', 42] }, printed: [['hello', 42]] });
});
