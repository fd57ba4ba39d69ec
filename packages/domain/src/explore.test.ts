import { explore } from '@virtlab/explorer';
import { describeExplorations } from '@virtlab/explorer/vitest';
import { describe, expect, it } from 'vitest';
import { dataPlane, explorations } from './explore/data-plane.explore.ts';

describeExplorations('no kick and no call between two domains is lost in any interleaving', explorations);

describe('what merges histories', () => {
  it('what a sleeping domain remembers is all that counts: the same holds without merging, in more states', () => {
    const config = { wire: 'posted bits', eventIdx: true, isPolled: false, rounds: [2] } as const;
    const merged = explore(dataPlane(config), 'tso');
    const apart = explore(dataPlane({ ...config, isMerged: false }), 'tso');
    expect([merged.failure, apart.failure]).toEqual([undefined, undefined]);
    expect(apart.stateCount).toBeGreaterThan(merged.stateCount);
    expect(apart.endCount).toBeGreaterThan(merged.endCount);
  });
});
