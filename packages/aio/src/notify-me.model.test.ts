import { compareThreads, explore } from '@virtlab/explorer';
import { describeExplorations } from '@virtlab/explorer/vitest';
import { describe, expect, it } from 'vitest';
import { type DoorbellConfig, doorbells, explorations as code } from './explore/doorbell.explore.ts';
import { type ModelConfig, explorations as model, notifyMe } from './explore/notify-me-model.explore.ts';

describeExplorations('no wake-up is lost in any interleaving, whoever dies', [...model, ...code]);

describe('the model is the program of the context', () => {
  const config: DoorbellConfig = { rings: [2, 1], looksEarly: false };
  const modelled: ModelConfig = { senders: 2, ringsPerSender: 2, deaths: false };

  it('every access of a sender, in every history', () => {
    const { difference, placeCount } = compareThreads(
      doorbells(config),
      'sender1',
      notifyMe(modelled),
      'sender1',
    );
    expect(difference).toBeUndefined();
    expect(placeCount).toBeGreaterThan(5);
  });

  it('every access of the receiver', () => {
    const { difference, placeCount } = compareThreads(
      doorbells(config),
      'receiver',
      notifyMe(modelled),
      'receiver',
    );
    expect(difference).toBeUndefined();
    expect(placeCount).toBeGreaterThan(50);
  });

  it('a model that drifted is noticed', () => {
    const drifted = notifyMe({ ...modelled, mistake: 'no last look' });
    const { difference } = compareThreads(doorbells(config), 'receiver', drifted, 'receiver');
    expect(difference).toContain('code:  atomicLoad work1\nmodel: wait for event');
  });
});

describe('a lost wake-up is told with its history', () => {
  it('shortest: one ring between the last look and the sleep', () => {
    const { failure } = explore(
      notifyMe({ senders: 1, ringsPerSender: 1, deaths: false, mistake: 'no last look' }),
    );
    expect(failure!.message).toBe('asleep, 1 rings of sender 1 finished, 0 taken');
    expect(failure!.trace.map(({ thread, text }) => `${thread}: ${text}`)).toEqual([
      'receiver: notifyMe = 0 (atomic)',
      'receiver: work1 is 0',
      'sender1: work1 = 1 (atomic)',
      'sender1: notifyMe is 0',
      'receiver: notifyMe = 1 (atomic)',
    ]);
  });
});
