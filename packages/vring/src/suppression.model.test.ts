import { type Exploration, compareThreads } from '@virtlab/explorer';
import { describeExplorations } from '@virtlab/explorer/vitest';
import { describe, expect, it } from 'vitest';
import { createBufferList } from './buffer-list.ts';
import { createHalves, ringMemory } from './explore/queues.explore.ts';
import { MODES, type ModelConfig, explorations, suppression } from './explore/suppression-model.explore.ts';

describeExplorations('§2.7.7, §2.7.10 suppression: no wake-up is lost in any interleaving', explorations);

/** The queues doing what the model does: one direction, and no waiting for room. */
function kicksOnly({ size, batches, eventIdx, suppresses }: ModelConfig): Exploration {
  const memory = ringMemory();
  return {
    memory,
    threads: () => {
      const { driver, device } = createHalves({ size, features: { indirect: false, eventIdx } }, memory);
      const list = createBufferList();
      list.addReadable(0x3000, 8);
      return {
        driver: (shared) => {
          for (const count of batches) {
            for (let each = 0; each < count; each++) driver.add(list, 1);
            if (driver.needsKick()) shared.atomicStore('kick', 1);
          }
        },
        device: (shared) => {
          for (;;) {
            for (let isMore = true; isMore; isMore = suppresses && device.enableKicks()) {
              if (suppresses) device.disableKicks();
              for (let chain = device.pop(); chain !== undefined; chain = device.pop()) device.push(chain, 0);
            }
            shared.sleep('kick');
          }
        },
      };
    },
  };
}

describe('the model is the program of the queues', () => {
  for (const mode of MODES) {
    const config: ModelConfig = { size: 4, batches: [1, 2, 1], start: 0, ...mode };
    const name = `${mode.eventIdx ? 'event index' : 'flags'}, ${mode.suppresses ? 'off while awake' : 'always on'}`;

    it.each(['driver', 'device'])(`${name}: every access of the %s, in every history`, (thread) => {
      const { difference, placeCount } = compareThreads(
        kicksOnly(config),
        thread,
        suppression(config),
        thread,
      );
      expect(difference).toBeUndefined();
      expect(placeCount).toBeGreaterThan(10);
    });
  }

  it('a model that drifted is noticed', () => {
    const config: ModelConfig = { size: 4, batches: [1, 2, 1], start: 0, eventIdx: true, suppresses: true };
    const compare = (thread: string, mistake: NonNullable<ModelConfig['mistake']>) =>
      compareThreads(kicksOnly(config), thread, suppression({ ...config, mistake }), thread).difference;
    expect(compare('device', 'no last look')).toContain('code:  atomicLoad availIdx\nmodel: sleep kick');
    expect(compare('driver', 'asks before publishing')).toContain('model: atomicLoad availEvent');
  });
});
