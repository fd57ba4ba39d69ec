import { describeExplorations } from '@virtlab/explorer/vitest';
import { explorations } from './explore/queues.explore.ts';

describeExplorations(
  '§2.7.7, §2.7.10 no kick and no call of the real queues is lost in any interleaving',
  explorations,
);
