import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { GROUP_NAMES } from '../group-names.ts';
import { groupTitle } from '../groups.ts';
import { GENERATOR_VERSION } from '../run-groups.ts';
import { comparisonCells, formatCount, formatNs, formatRate, formatRatio } from './cells.ts';
import { groupHeading, markdownTable, pageHeader, performancePage } from './performance-page.ts';
import type { BenchReport, ComparisonReport } from './report.ts';

const at = (median: number) => ({ median, min: median / 2, max: median * 2, sampleCount: 3 });

const COMPARISON: ComparisonReport = {
  title: 'One thing',
  operation: 'request',
  contenders: [
    {
      name: 'virtlab',
      isPeer: false,
      budgetNs: 50,
      nsPerOperation: at(60),
      against: [{ peer: 'other', ratio: 0.5 }],
      doorbells: { kicks: 0.0625, calls: 0, wakeUps: undefined },
      published: undefined,
      cpuNs: 75,
      counts: { 'round trips': 2 },
    },
    {
      name: 'other',
      isPeer: true,
      budgetNs: undefined,
      nsPerOperation: at(120),
      against: [],
      doorbells: undefined,
      published: '100–200',
      cpuNs: undefined,
      counts: {},
    },
  ],
};

const REPORT: BenchReport = {
  generatorVersion: 7,
  date: '2030-01-02',
  machine: {
    cpuModel: 'Some CPU',
    coreCount: 2,
    memoryGib: 4,
    kernel: 'Linux 6.1',
    node: 'v24.0.0',
    v8: '13',
    loadBefore: 0.5,
    idleShareBefore: 0.75,
  },
  roundCount: 9,
  runMs: 50,
  groups: [
    {
      name: 'ring',
      title: 'A ring',
      method: ['How.'],
      findings: ['Why.'],
      comparisons: [COMPARISON],
      curves: [{ title: 'How it grows', head: ['nodes', 'virtlab'], rows: [['1,000', '5.00 µs']] }],
      skipped: undefined,
      missing: ['a compiler'],
      othersShare: 0.25,
    },
  ],
};

describe('figures', () => {
  it('have three digits and a unit', () => {
    expect([1.234, 12.34, 123.4, 1234, 12_345, 999_999, 1e7].map(formatNs)).toEqual([
      '1.23 ns',
      '12.3 ns',
      '123 ns',
      '1.23 µs',
      '12.3 µs',
      '1000 µs',
      '10.0 ms',
    ]);
    expect([0.046, 1, 12.34].map(formatRatio)).toEqual(['0.05 ×', '1.00 ×', '12.3 ×']);
    expect([0, 0.0004, 0.0625, 1].map(formatCount)).toEqual(['0', '< 0.001', '0.063', '1.000']);
  });
});

describe('a table', () => {
  it('has budgets, ratios, doorbells, processor time and what others published where there are any', () => {
    const { head, rows } = comparisonCells(COMPARISON);
    expect(head.slice(0, 4)).toEqual(['per request', 'median', 'min', 'max']);
    expect(head.slice(4, 8)).toEqual(['budget', '÷ other', 'kicks', 'calls']);
    expect(head.slice(8)).toEqual(['round trips', 'CPU', 'published, another run']);
    expect(rows).toEqual([
      'virtlab|60.0 ns|30.0 ns|120 ns|50.0 ns|0.50 ×|0.063|0|2.000|75.0 ns|'.split('|'),
      ['other', '120 ns', '60.0 ns', '240 ns', '', '', '', '', '', '', '100–200'],
    ]);
  });

  it('has operations and bytes for a second where the size of one is known', () => {
    const { head, rows } = comparisonCells({ ...COMPARISON, operationSize: 4096 });
    expect(head.slice(3, 6)).toEqual(['max', 'per second', 'MB/s']);
    expect(rows.map((row) => row.slice(4, 6))).toEqual([
      ['16.7 M', '68267'],
      ['8.33 M', '34133'],
    ]);
    expect([7, 12_345].map(formatRate)).toEqual(['7.00', '12.3 k']);
  });

  it('has no ratio to a peer that does something else', () => {
    const third = { ...COMPARISON.contenders[1]!, name: 'third' };
    const { head, rows } = comparisonCells({ ...COMPARISON, contenders: [...COMPARISON.contenders, third] });
    expect(rows[0]![head.indexOf('÷ third')]).toBe('');
  });

  it('has none of these columns where there is nothing to put into them', () => {
    const bare = COMPARISON.contenders.map((contender) => ({
      ...contender,
      budgetNs: undefined,
      doorbells: undefined,
      published: undefined,
      cpuNs: undefined,
      counts: {},
    }));
    const { head } = comparisonCells({ ...COMPARISON, contenders: bare });
    expect(head).toEqual(['per request', 'median', 'min', 'max', '÷ other']);
  });

  it('is padded', () => {
    expect(markdownTable({ head: ['a', 'b'], rows: [['long', '1']] })).toBe(
      ['| a    |   b |', '| ---- | --: |', '| long |   1 |'].join('\n'),
    );
  });
});

describe('performancePage', () => {
  const page = performancePage(REPORT);

  it('begins by saying where it comes from', () => {
    expect(page.split('\n', 1)[0]).toBe(pageHeader(7));
  });

  it('names machine, method, budgets missed and findings', () => {
    for (const text of ['Some CPU, 2 cores', 'v24.0.0', 'for 9 rounds', 'How.', 'Why.', '2030-01-02'])
      expect(page).toContain(text);
    for (const text of ['75 % idle', 'others had 25 % of the processors', 'Left out: a compiler.'])
      expect(page).toContain(text);
    expect(page).toMatch(/### How it grows\n\n\| nodes \| virtlab \|\n.*\n\| 1,000 \| 5\.00 µs \|/);
    expect(page).toMatch(/\| A ring: One thing: virtlab +\| 50\.0 ns \| 60\.0 ns \| +no \| +25 % \|/);
  });
});

describe('docs/performance.md', () => {
  const page = readFileSync(new URL('../../../../docs/performance.md', import.meta.url), 'utf8');

  it('was written by this generator', () => {
    expect(page.split('\n', 1)[0]).toBe(pageHeader(GENERATOR_VERSION));
  });

  it.each(GROUP_NAMES)('has the tables of group %s, ours beside a peer', (name) => {
    const heading = groupHeading({ title: groupTitle(name) });
    const section = page.split(/^(?=## )/m).find((each) => each.startsWith(`${heading}\n`));
    const tables = section?.split(/^### /m).filter((each) => each.includes('\n| per ')) ?? [];
    expect(tables.length).toBeGreaterThan(0);
    for (const table of tables) {
      expect(table).toMatch(/^\| per .*\| +median \| +min \| +max \|.* ÷ /m);
      expect(table).toMatch(/^\| virtlab, /m);
      expect(table).toMatch(/^\| (?!virtlab|per |---)/m);
    }
  });

  it('names no folder of the machine it was made on', () => {
    expect(page).not.toMatch(/\/(home|root|tmp|work|usr)\//);
  });
});
