import { describeExplorations } from '@virtlab/explorer/vitest';
import { explorations as control } from './explore/fifo-control.explore.ts';
import { explorations as death } from './explore/fifo-death.explore.ts';
import { explorations as fifo } from './explore/fifo.explore.ts';

describeExplorations('FIFO: no event is lost in any interleaving', [...fifo, ...control, ...death]);
