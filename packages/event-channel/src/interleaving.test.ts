import { describeExplorations } from '@virtlab/explorer/vitest';
import { explorations as closing } from './explore/close.explore.ts';
import { explorations as twoLevel } from './explore/two-level.explore.ts';

describeExplorations('no event is lost in any interleaving', [...twoLevel, ...closing]);
