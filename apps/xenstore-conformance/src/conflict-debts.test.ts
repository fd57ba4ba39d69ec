import { describe, expect, it } from 'vitest';
import { ConflictDebts } from './conflict-debts.ts';
import { type Row, stepsOf } from './fixed/fixed-case.ts';

function afterwards(rows: readonly (readonly [...Row, error?: string])[]): ConflictDebts {
  const debts = new ConflictDebts();
  for (const [who, operation, payload, error] of rows) {
    const [step] = stepsOf([[who, operation, payload]], '');
    if (step?.kind === 'request') debts.answered(step, error);
  }
  return debts;
}

describe('ConflictDebts', () => {
  it('whoever changed something since a transaction started may owe for its failure, but for the one who lost it', () => {
    const debts = afterwards([
      ['6', 'WRITE', '/early|'],
      ['5', 'START=t', '|'],
      ['5', 'WRITE', '/own|'],
      ['7', 'READ', '/a|'],
      ['8', 'MKDIR', '/a|', 'EACCES'],
      ['9', 'SET_PERMS', '/none|n9|', 'ENOENT'],
      ['0', 'RM', '/a|'],
      ['0', 'END', 'T|', 'ENOENT'],
      ['5/t', 'END', 'T|', 'EAGAIN'],
    ]);
    expect([0, 5, 6, 7, 8, 9].map((domid) => debts.tickCountFor(domid))).toEqual([0, 0, 0, 0, 1, 0]);
  });

  it('what is changed in a transaction counts when that ends', () => {
    const debts = afterwards([
      ['0', 'START=t', '|'],
      ['6', 'START=u', '|'],
      ['7', 'START=v', '|'],
      ['6/u', 'WRITE', '/a|'],
      ['7/v', 'WRITE', '/a|'],
      ['6/u', 'END', 'T|'],
      ['0/t', 'END', 'T|', 'EAGAIN'],
    ]);
    expect([6, 7].map((domid) => debts.tickCountFor(domid))).toEqual([1, 0]);
  });

  it('ticks are given out one by one, so a debtor waits for the others, too; six points are the most', () => {
    const conflict = [
      ['0', 'START=t', '|'],
      ['6', 'WRITE', '/a|'],
      ['0/t', 'END', 'T|', 'EAGAIN'],
    ] as const;
    const rows = Array.from({ length: 9 }, () => conflict).flat();
    expect(afterwards(rows).tickCountFor(6)).toBe(6);
    const debts = afterwards([...rows, ['0', 'START=t', '|'], ['7', 'RM', '/a|'], conflict[2]]);
    expect([5, 6, 7].map((domid) => debts.tickCountFor(domid))).toEqual([0, 7, 7]);
    debts.clear();
    expect(debts.tickCountFor(6)).toBe(0);
  });

  it('of a transaction that the script does not name any guest may be guilty', () => {
    const debts = afterwards([
      ['6', 'WRITE', '/a|'],
      ['0/#1', 'END', 'T|', 'EAGAIN'],
    ]);
    expect(debts.tickCountFor(6)).toBe(1);
  });
});
