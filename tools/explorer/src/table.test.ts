import { describe, expect, it } from 'vitest';
import { type ExplorationCase, runCase } from './index.ts';
import { formatTable, replaceTable, rowsOf } from './table.ts';

const exploration: ExplorationCase['exploration'] = {
  words: { x: 0 },
  threads: { one: (shared) => shared.add('x', 1), two: (shared) => shared.add('x', 1) },
  check: (end) => (end.word('x') === 2 ? undefined : 'lost'),
};
const bugs: ExplorationCase['bugs'] = [
  { name: 'nothing is right', exploration: { ...exploration, check: () => 'wrong' } },
];

describe('the table', () => {
  it('has a row for each memory model, with counts that are sums over the explorations of a case', () => {
    const one = rowsOf(runCase({ name: 'one', exploration, bugs }));
    const two = rowsOf(runCase({ name: 'two', exploration: [exploration, exploration], bugs: [] }));
    expect(one).toEqual([
      ['one', 'sc', '2', '4', '4', '1', 'holds', '2 of 2 found'],
      ['one', 'tso', '2', '4', '4', '1', 'holds', ''],
    ]);
    expect(two[0]).toEqual(['two', 'sc', '2', '8', '8', '2', 'holds', 'none']);
  });

  it('stands in a page in place of the last one', () => {
    const table = formatTable([['n', 'sc', '2', '40', '50', '1', 'holds', 'none']]);
    const page = `# Page\n\n${table}\n\nAfter.\n`;
    expect(replaceTable(page, formatTable([]))).toBe(`# Page\n\n${formatTable([])}\n\nAfter.\n`);
    expect(() => replaceTable('# Page\n', table)).toThrow(TypeError);
  });
});
